//! What files say of themselves, in one form: names, tags, dates, and the natural language of a text.

use crate::text::{Kind, TextDocument, clean_prose};
use whatlang::Lang;

/// Names or tags of one file.
const MAX_NAMES: usize = 50;
/// Bytes of a name or tag.
const MAX_NAME_BYTES: usize = 100;
/// Characters of prose below which a language is a guess.
const MIN_PROSE_CHARS: usize = 200;
/// Bytes of prose that are looked at.
const PROSE_BYTES: usize = 16 * 1024;

/// The names in a list with semicolons (commas part family names from given names), each once.
pub(super) fn names<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    listed(texts, &[';'])
}

/// The tags in a list with commas or semicolons, each once.
pub(super) fn tags<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    listed(texts, &[',', ';'])
}

fn listed<'a>(texts: impl IntoIterator<Item = &'a str>, separators: &[char]) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    for name in texts.into_iter().flat_map(|text| text.split(separators)) {
        let name = clean_prose(name.trim().trim_matches(['"', '\'']));
        let name = name[..name.floor_char_boundary(MAX_NAME_BYTES)].trim();
        if !name.is_empty() && out.len() < MAX_NAMES && !out.iter().any(|known| known == name) {
            out.push(name.to_owned());
        }
    }
    out
}

/// A date as RFC 3339 has it: `2024-05-01`, or with time where the file tells the offset. Read are ISO 8601 (a month or a year
/// alone is too vague) and the dates of PDF (`D:20240501103000+02'00'`).
pub(super) fn date(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['"', '\'']);
    let digits = text.strip_prefix("D:").unwrap_or(text);
    let compact = digits.len() >= 8 && digits.as_bytes()[..8].iter().all(u8::is_ascii_digit);
    let mut rest = digits;
    let year = number(&mut rest, 4)?;
    let month = number(skip(&mut rest, '-', compact)?, 2)?;
    let day = number(skip(&mut rest, '-', compact)?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u16::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > days {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    Some(match time(rest.trim_start_matches(['T', 't', ' ']), compact) {
        Some(time) => format!("{date}T{time}"),
        None => date,
    })
}

/// A time with its offset, `None` where either is missing.
fn time(mut rest: &str, compact: bool) -> Option<String> {
    let hour = number(&mut rest, 2)?;
    let minute = number(skip(&mut rest, ':', compact)?, 2)?;
    let second = skip(&mut rest, ':', compact).and_then(|rest| number(rest, 2)).unwrap_or(0);
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = match rest.chars().next()? {
        'Z' | 'z' => "Z".to_owned(),
        sign @ ('+' | '-') => {
            let mut rest = rest[1..].trim_end_matches('\'');
            let hours = number(&mut rest, 2)?;
            let minutes = number(&mut rest.trim_start_matches([':', '\'']), 2).unwrap_or(0);
            (hours <= 23 && minutes <= 59).then(|| format!("{sign}{hours:02}:{minutes:02}"))?
        }
        _ => return None,
    };
    Some(format!("{hour:02}:{minute:02}:{second:02}{offset}"))
}

/// A number of exactly so many digits.
fn number(rest: &mut &str, digits: usize) -> Option<u16> {
    let found = rest.get(..digits)?;
    let number = found.bytes().all(|byte| byte.is_ascii_digit()).then(|| found.parse().ok())??;
    *rest = &rest[digits..];
    Some(number)
}

fn skip<'a, 'b>(rest: &'a mut &'b str, separator: char, compact: bool) -> Option<&'a mut &'b str> {
    if !compact || rest.starts_with(separator) {
        *rest = rest.strip_prefix(separator)?;
    }
    Some(rest)
}

/// A declared language, if it looks like a tag (BCP 47).
pub(super) fn language_tag(tag: &str) -> Option<String> {
    let tag = tag.trim();
    let fits = (2..=35).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (fits && tag != "und").then(|| tag.to_owned())
}

/// The natural language of a document's prose as a BCP 47 tag, where there is enough of it to be sure.
pub(super) fn language_of(document: &TextDocument) -> Option<&'static str> {
    let mut prose = String::new();
    for block in &document.blocks {
        if matches!(block.kind, Kind::Paragraph | Kind::List) && prose.len() < PROSE_BYTES {
            let text = document.slice(block);
            prose.push_str(&text[..text.floor_char_boundary(PROSE_BYTES - prose.len())]);
            prose.push(' ');
        }
    }
    if prose.chars().filter(|c| c.is_alphabetic()).count() < MIN_PROSE_CHARS {
        return None;
    }
    let found = whatlang::detect(&prose)?;
    found.is_reliable().then(|| bcp47(found.lang()))
}

/// The shortest tag of a language (RFC 5646: two letters where there are any).
fn bcp47(language: Lang) -> &'static str {
    let code = language.code();
    TWO_LETTERS.iter().find(|(three, _)| *three == code).map_or(code, |(_, two)| *two)
}

/// ISO 639-3 and 639-1.
#[rustfmt::skip]
const TWO_LETTERS: &[(&str, &str)] = &[
    ("epo", "eo"), ("eng", "en"), ("rus", "ru"), ("cmn", "zh"), ("spa", "es"), ("por", "pt"), ("ita", "it"), ("ben", "bn"),
    ("fra", "fr"), ("deu", "de"), ("ukr", "uk"), ("kat", "ka"), ("ara", "ar"), ("hin", "hi"), ("jpn", "ja"), ("heb", "he"),
    ("yid", "yi"), ("pol", "pl"), ("amh", "am"), ("jav", "jv"), ("kor", "ko"), ("nob", "nb"), ("dan", "da"), ("swe", "sv"),
    ("fin", "fi"), ("tur", "tr"), ("nld", "nl"), ("hun", "hu"), ("ces", "cs"), ("ell", "el"), ("bul", "bg"), ("bel", "be"),
    ("mar", "mr"), ("kan", "kn"), ("ron", "ro"), ("slv", "sl"), ("hrv", "hr"), ("srp", "sr"), ("mkd", "mk"), ("lit", "lt"),
    ("lav", "lv"), ("est", "et"), ("tam", "ta"), ("vie", "vi"), ("urd", "ur"), ("tha", "th"), ("guj", "gu"), ("uzb", "uz"),
    ("pan", "pa"), ("aze", "az"), ("ind", "id"), ("tel", "te"), ("pes", "fa"), ("mal", "ml"), ("ori", "or"), ("mya", "my"),
    ("nep", "ne"), ("sin", "si"), ("khm", "km"), ("tuk", "tk"), ("aka", "ak"), ("zul", "zu"), ("sna", "sn"), ("afr", "af"),
    ("lat", "la"), ("slk", "sk"), ("cat", "ca"), ("tgl", "tl"), ("hye", "hy"), ("cym", "cy"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Builder;

    #[test]
    fn dates_of_all_formats_become_one() {
        let cases = [
            ("2024-05-01", Some("2024-05-01")),
            ("2024-05-01T10:30:00Z", Some("2024-05-01T10:30:00Z")),
            ("2024-05-01T10:30:00.123+02:00", Some("2024-05-01T10:30:00+02:00")),
            ("2024-05-01T10:30:00", Some("2024-05-01")),
            ("2024-02-29 and more", Some("2024-02-29")),
            ("D:20240501103000+02'00'", Some("2024-05-01T10:30:00+02:00")),
            ("D:20240501", Some("2024-05-01")),
            ("D:20240501103000Z00'00'", Some("2024-05-01T10:30:00Z")),
            ("2023-02-29", None),
            ("2024", None),
            ("May 2024", None),
            ("2024-é1-01", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(date(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_and_tags_are_told_apart_and_bounded() {
        assert_eq!(names(["Doe, Jane; John  Roe", "John Roe"]), ["Doe, Jane", "John Roe"]);
        assert_eq!(tags(["tea, \"pots\"; cups,,tea"]), ["tea", "pots", "cups"]);
        assert_eq!(tags([",x".repeat(9).as_str(), &"é".repeat(200)])[1].len(), 100);
    }

    #[test]
    fn a_language_is_told_by_enough_prose_only() {
        let language = |text: &str| {
            let mut builder = Builder::new();
            builder.paragraph(text);
            language_of(&builder.finish().unwrap())
        };
        let german = "Der Tee wird aus den Blättern der Teepflanze gewonnen und mit heißem Wasser aufgegossen. ";
        assert_eq!(language(&german.repeat(4)), Some("de"));
        assert_eq!(language(german), None);
        let english = "Tea is made of the leaves of a plant, and hot water is poured over them before it is drunk. ";
        assert_eq!(language(&english.repeat(4)), Some("en"));
    }
}
