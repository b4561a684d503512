//! Bytes to characters: byte order mark, UTF-8, a declared encoding, and only then a guess that is told to the reader.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;
use lmao_events::Failure;

use super::detect::{HEAD_BYTES, utf16};

/// Bytes that the guess looks at.
const GUESS_BYTES: usize = 1024 * 1024;

/// Decoded text, and what the reader should know about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) text: String,
    pub(super) warning: Option<String>,
}

/// Where an encoding may be declared inside the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declaration {
    /// Nowhere.
    None,
    /// In a `meta` element or an XML declaration near the beginning.
    Html,
}

/// Decodes a whole file.
///
/// # Errors
/// `unsupported_format` when the bytes are no text in any encoding.
pub(super) fn decode(bytes: Vec<u8>, declaration: Declaration) -> Result<Decoded, Failure> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    if let Some((encoding, mark)) = Encoding::for_bom(&bytes) {
        return Ok(by(encoding, &bytes[mark..], None));
    }
    if let Some(encoding) = utf16(head) {
        return Ok(by(encoding, &bytes, Some("has no byte order mark; it was read as")));
    }
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(Decoded { text, warning: None }),
        Err(error) => error.into_bytes(),
    };
    if let Some(encoding) = declared(&bytes).filter(|_| declaration == Declaration::Html) {
        return Ok(by(encoding, &bytes, None));
    }
    if let Some(text) = nearly_utf8(&bytes) {
        return Ok(text);
    }
    if bytes.contains(&0) {
        return Err(Failure::lasting(
            "unsupported_format",
            "The file begins like text, but binary data follows. Upload the text alone.",
        ));
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    let sample = &bytes[..bytes.len().min(GUESS_BYTES)];
    detector.feed(sample, sample.len() == bytes.len());
    let encoding = detector.guess(None, Utf8Detection::Deny);
    Ok(by(encoding, &bytes, Some("is no valid UTF-8; it was read as")))
}

fn by(encoding: &'static Encoding, bytes: &[u8], warning: Option<&str>) -> Decoded {
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    let mut warning = warning.map(|what| format!("the file {what} {}", encoding.name()));
    if broken {
        let lost = format!("some bytes are no {} and were replaced", encoding.name());
        warning = Some(warning.map_or(lost.clone(), |first| format!("{first}; {lost}")));
    }
    Decoded { text: text.into_owned(), warning }
}

/// UTF-8 with a few broken places, as cut logs and pasted files have: at least ten good multi-byte characters for each
/// bad sequence. A guess would turn all of the good ones into nonsense.
fn nearly_utf8(bytes: &[u8]) -> Option<Decoded> {
    let (mut good, mut bad) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().bytes().filter(|byte| *byte >= 0xc0).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    (good >= bad * 10).then(|| Decoded {
        text: String::from_utf8_lossy(bytes).into_owned(),
        warning: Some(format!("{bad} byte sequences are no valid UTF-8 and were replaced")),
    })
}

/// `charset=…` or `encoding="…"` within the first bytes (the HTML standard looks at 1024).
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    ["charset=", "encoding="].iter().find_map(|key| {
        let rest = head[head.find(key)? + key.len()..].trim_start_matches(['"', '\'', ' ']);
        let label: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_:".contains(*c)).collect();
        Encoding::for_label(label.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    #[test]
    fn text_of_any_encoding_is_read() {
        let text = "Größe, Übermut und Straße: ein naïver Café-Besuch.";
        let windows: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let cases = [
            (text.as_bytes().to_vec(), Declaration::None, None),
            ([b"\xef\xbb\xbf", text.as_bytes()].concat(), Declaration::None, None),
            ([b"\xff\xfe".to_vec(), utf16(text, u16::to_le_bytes)].concat(), Declaration::None, None),
            ([b"\xfe\xff".to_vec(), utf16(text, u16::to_be_bytes)].concat(), Declaration::None, None),
            (utf16(text, u16::to_le_bytes), Declaration::None, Some("read as UTF-16LE")),
            (windows.clone(), Declaration::None, Some("read as windows-1252")),
        ];
        for (bytes, declaration, warned) in cases {
            let decoded = decode(bytes, declaration).unwrap();
            assert_eq!(decoded.text, text);
            match warned {
                None => assert_eq!(decoded.warning, None),
                Some(part) => assert!(decoded.warning.as_ref().unwrap().contains(part), "{:?}", decoded.warning),
            }
        }
        let html = [b"<meta charset=\"iso-8859-1\">".as_slice(), &windows].concat();
        let decoded = decode(html, Declaration::Html).unwrap();
        assert!(decoded.text.ends_with(text) && decoded.warning.is_none());
    }

    #[test]
    fn a_few_broken_bytes_do_not_spoil_the_rest() {
        let mut bytes = "日本語のテキスト、日本語のテキスト".as_bytes().to_vec();
        bytes.push(0xff);
        let decoded = decode(bytes, Declaration::None).unwrap();
        assert_eq!(decoded.text, "日本語のテキスト、日本語のテキスト\u{fffd}");
        assert_eq!(decoded.warning.unwrap(), "1 byte sequences are no valid UTF-8 and were replaced");
    }

    #[test]
    fn binary_behind_text_is_refused() {
        let mut bytes = b"#!/bin/sh\n".repeat(10_000);
        bytes.extend(b"\0\xff\xfe\x80\x81".repeat(10_000));
        assert_eq!(decode(bytes, Declaration::None).unwrap_err().reason, "unsupported_format");
    }
}
