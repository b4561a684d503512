//! Mailboxes (RFC 4155, in the variant that quotes each `From ` as `>From `): many mails in one file, each behind a line that
//! begins with `From `.

use std::borrow::Cow;

/// What the line before a mail begins with.
const MARK: &[u8] = b"From ";
/// Characters of a header's name, of which a line has 78.
const NAME_BYTES: usize = 77;

/// The mails, without the lines between them; none if this does not begin as a mailbox.
pub(super) fn mails(bytes: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut rest = bytes.starts_with(MARK).then(|| &bytes[line_end(bytes, 0)..]);
    std::iter::from_fn(move || {
        let mail = rest.take()?;
        let (own, next) = split(mail);
        rest = next;
        Some(unquoted(own))
    })
}

/// The first mail of these bytes, and what follows the line behind it.
///
/// Not every writer quotes the words "From " in a text: only a line between an empty one and a header parts mails.
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut at = 0;
    while at < bytes.len() {
        let end = line_end(bytes, at);
        if bytes[at..].starts_with(MARK) && is_after_blank(&bytes[..at]) && begins_with_header(&bytes[end..]) {
            return (&bytes[..at], Some(&bytes[end..]));
        }
        at = end;
    }
    (bytes, None)
}

/// Where the line that begins at a place ends, its line feed included.
fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length + 1)
}

fn is_after_blank(before: &[u8]) -> bool {
    before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n")
}

fn begins_with_header(bytes: &[u8]) -> bool {
    let length = bytes.iter().take(NAME_BYTES).take_while(|byte| (33..127).contains(*byte) && **byte != b':').count();
    length > 0 && bytes.get(length) == Some(&b':')
}

/// A mail with one `>` less before each `From ` at the beginning of a line.
fn unquoted(mail: &[u8]) -> Cow<'_, [u8]> {
    let is_quoted = |line: &[u8]| {
        let depth = line.iter().take_while(|byte| **byte == b'>').count();
        depth > 0 && line[depth..].starts_with(MARK)
    };
    let lines = || mail.split_inclusive(|byte| *byte == b'\n');
    if !lines().any(is_quoted) {
        return Cow::Borrowed(mail);
    }
    let mut out = Vec::with_capacity(mail.len());
    lines().for_each(|line| out.extend_from_slice(&line[usize::from(is_quoted(line))..]));
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_up(text: &str) -> Vec<String> {
        mails(text.as_bytes()).map(|mail| String::from_utf8(mail.into_owned()).unwrap()).collect()
    }

    #[test]
    fn only_a_line_between_a_blank_and_a_header_parts_mails() {
        assert_eq!(
            split_up(
                "From a Mon\nSubject: 1\n\nWords\nFrom b\nX: in the text\n\nFrom here on it is text.\n>From c\n>>From d\n\n\
                 From e\r\nSubject: 2\r\n\r\nMore\r\n\r\nFrom f\r\nSubject: 3\r\n"
            ),
            [
                "Subject: 1\n\nWords\nFrom b\nX: in the text\n\nFrom here on it is text.\nFrom c\n>From d\n\n",
                "Subject: 2\r\n\r\nMore\r\n\r\n",
                "Subject: 3\r\n"
            ]
        );
        assert_eq!(split_up("Subject: 1\n\nFrom a\nSubject: 2\n"), [""; 0]);
        assert_eq!(split_up("From "), [""]);
    }
}
