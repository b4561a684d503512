//! What the words of RTF mean: destinations without text, code pages, characters with names.

use encoding_rs::Encoding;

/// Destinations whose content is no text of the document.
pub(super) const LEFT_OUT: &[&str] = &[
    "colortbl",
    "pict",
    "objdata",
    "objclass",
    "objname",
    "objalias",
    "objsect",
    "objtopic",
    "objitem",
    "fldinst",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "listtable",
    "listoverridetable",
    "revtbl",
    "rsidtbl",
    "generator",
    "themedata",
    "datastore",
    "colorschememapping",
    "latentstyles",
    "xmlnstbl",
    "private",
    "bkmkstart",
    "bkmkend",
    "annotation",
    "atnid",
    "atnauthor",
    "template",
    "filetbl",
    "passwordhash",
    "mmathPr",
    "shppict",
    "nonshppict",
    "sp",
    "pnseclvl",
    "comment",
    "operator",
    "company",
    "manager",
    "category",
    "doccomm",
    "hlinkbase",
    "vern",
    "subject",
    "printim",
    "buptim",
    "revtim",
    "userprops",
    "upr",
    "xe",
    "tc",
];

/// A list's marker, as programs write it without saying so: `•`, `2.`, `(a)`.
pub(super) fn is_marker(text: &str) -> bool {
    let body = text.trim_matches(['(', ')', '.']);
    matches!(text, "•" | "·" | "-" | "–" | "◦" | "*" | "▪")
        || body.len() < text.len()
            && (1..=3).contains(&body.len())
            && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The encoding of a Windows code page.
pub(super) fn encoding_of(page: u16) -> Option<&'static Encoding> {
    let label = match page {
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        10000 => "macintosh".to_owned(),
        65001 => "utf-8".to_owned(),
        page => format!("windows-{page}"),
    };
    Encoding::for_label(label.as_bytes())
}

/// Words that stand for a character.
pub(super) fn character(name: &str) -> Option<&'static str> {
    Some(match name {
        "emdash" => "—",
        "endash" => "–",
        "emspace" | "enspace" | "qmspace" => " ",
        "bullet" => "•",
        "lquote" => "‘",
        "rquote" => "’",
        "ldblquote" => "“",
        "rdblquote" => "”",
        _ => return None,
    })
}
