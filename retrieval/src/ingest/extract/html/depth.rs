//! A limit on how deep elements nest. The tree builder of the HTML standard looks through all open elements at each tag,
//! hence takes quadratic time on deep nesting; browsers flatten what is deeper than 512, and so does this.

use std::borrow::Cow;

/// Elements that may be open at once. No page that a person wrote comes near.
const MAX_DEPTH: usize = 2000;
/// Elements without an end tag, and those whose end tag is often left out: they say nothing about depth.
const UNCOUNTED: &[&str] = &[
    "area", "base", "body", "br", "col", "colgroup", "dd", "dt", "embed", "head", "hr", "html", "img", "input", "li",
    "link", "meta", "optgroup", "option", "p", "param", "rp", "rt", "source", "tbody", "td", "tfoot", "th", "thead",
    "tr", "track", "wbr",
];

/// The page with the tags left out that nest too deep; borrowed if there are none.
pub(super) fn limited(html: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut depth, mut left_out, mut copied, mut at) = (0_usize, 0_usize, 0, 0);
    while let Some(tag) = next_tag(html, at) {
        at = tag.end;
        let leave_out = match tag.kind {
            TagKind::Open if depth >= MAX_DEPTH => {
                left_out += 1;
                true
            }
            TagKind::Open => {
                depth += 1;
                false
            }
            TagKind::Close if left_out > 0 => {
                left_out -= 1;
                true
            }
            TagKind::Close => {
                depth = depth.saturating_sub(1);
                false
            }
        };
        if leave_out {
            out.push_str(&html[copied..tag.start]);
            // Words on both sides of a block's tag must not run together.
            out.push(' ');
            copied = tag.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(html);
    }
    out.push_str(&html[copied..]);
    Cow::Owned(out)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagKind {
    Open,
    Close,
}

#[derive(Debug)]
struct Tag {
    kind: TagKind,
    start: usize,
    end: usize,
}

/// The next tag that counts, at or after a place; comments and scripts are stepped over.
fn next_tag(html: &str, mut at: usize) -> Option<Tag> {
    loop {
        let start = at + html[at..].find('<')?;
        let rest = &html[start + 1..];
        if rest.starts_with("!--") {
            at = start + 4 + html[start + 4..].find("-->")?;
            continue;
        }
        let (kind, name) = match rest.strip_prefix('/') {
            Some(rest) => (TagKind::Close, rest),
            None => (TagKind::Open, rest),
        };
        let length = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let name = name[..length].to_ascii_lowercase();
        if length == 0 || UNCOUNTED.contains(&name.as_str()) {
            at = start + 1;
            continue;
        }
        let end = start + rest.find('>')? + 2;
        // Drawings and formulas close their elements so.
        if html[..end].ends_with("/>") {
            at = end;
            continue;
        }
        if kind == TagKind::Open && matches!(name.as_str(), "script" | "style" | "textarea" | "title") {
            let close = format!("</{name}");
            at = end + find_ignoring_case(&html[end..], &close)? + close.len();
            continue;
        }
        return Some(Tag { kind, start, end });
    }
}

fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes().windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deep_nesting_is_flattened() {
        let page =
            "<!doctype html><html><p>one<p>two<!-- <div> --><script>'<div>'</script><path d=\"\"/><div a=b>x</div>"
                .repeat(3000);
        assert!(matches!(limited(&page), Cow::Borrowed(_)));
        let deep = format!("{}<b>x</b>y{}z", "<div>".repeat(5000), "</div>".repeat(5000));
        let flat = limited(&deep);
        assert_eq!(flat.matches("<div>").count(), MAX_DEPTH);
        assert_eq!(flat.matches("</div>").count(), MAX_DEPTH);
        assert_eq!(flat.split_whitespace().filter(|word| !word.contains("div")).collect::<Vec<_>>(), ["x", "y"]);
        assert!(flat.ends_with('z'));
    }
}
