//! Pages that are XML. There `<title/>` is an element without content; the parser of the HTML standard takes it for a title
//! that is open, and loses all that follows. Hence such elements are given an end tag first.

use std::borrow::Cow;

/// Elements that have no end tag in HTML either.
const VOID: &[&str] =
    &["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];

/// Whether a page says that it is XML.
pub(super) fn is_xml(page: &str) -> bool {
    page.trim_start_matches('\u{feff}').trim_start().starts_with("<?xml")
}

/// The page with an end tag for each element without content; borrowed if there are none.
pub(super) fn closed(page: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(start) = page[at..].find('<').map(|found| at + found) {
        let Some(end) = construct_end(page, start) else { break };
        at = end;
        let Some(name) = name_at(page, start + 1) else { continue };
        if let Some(open) = page[start..end].strip_suffix("/>") {
            if !VOID.contains(&name) {
                out.push_str(&page[copied..start]);
                out.push_str(open);
                out.push_str("></");
                out.push_str(name);
                out.push('>');
                copied = end;
            }
        } else if matches!(name, "script" | "style") {
            // What looks like a tag in there is none.
            let Some(length) = page[end..].find(&format!("</{name}")) else { break };
            at = end + length;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(page);
    }
    out.push_str(&page[copied..]);
    Cow::Owned(out)
}

/// The name of a tag, if one begins here; one with a prefix is no element of HTML.
fn name_at(page: &str, at: usize) -> Option<&str> {
    let length = page[at..].bytes().take_while(u8::is_ascii_alphanumeric).count();
    let is_whole = page[at + length..].starts_with(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'));
    (length > 0 && is_whole).then(|| &page[at..at + length])
}

/// Where the tag, comment or section that begins here ends; just behind the `<` if it is none.
fn construct_end(page: &str, start: usize) -> Option<usize> {
    let rest = &page[start..];
    for (begin, end) in [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")] {
        if rest.starts_with(begin) {
            return rest.find(end).map(|found| start + found + end.len());
        }
    }
    if !rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
        return Some(start + 1);
    }
    // Values in quotes may have a `>`.
    let (mut quote, mut last) = (None, b'<');
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match quote {
            Some(open) if open == byte => quote = None,
            Some(_) => {}
            None if byte == b'>' => return Some(start + at + 1),
            None if matches!(byte, b'"' | b'\'') && last == b'=' => quote = Some(byte),
            None => {}
        }
        last = if byte.is_ascii_whitespace() { last } else { byte };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_without_content_are_closed() {
        for (page, expected) in [
            ("<title/><p>x</p>", "<title></title><p>x</p>"),
            ("<script src = \"a>b\" />y<br/>", "<script src = \"a>b\" ></script>y<br/>"),
            ("<a id='1'/>a &lt; b < c<i/>", "<a id='1'></a>a &lt; b < c<i></i>"),
            ("<!-- <b/> --><b/><![CDATA[<b/>]]>", "<!-- <b/> --><b></b><![CDATA[<b/>]]>"),
            ("<script>'<script/>'</script><i/>", "<script>'<script/>'</script><i></i>"),
            ("<svg:title/><p title=don't>é</p><b/>", "<svg:title/><p title=don't>é</p><b></b>"),
        ] {
            assert_eq!(closed(page), expected);
        }
        for page in ["", "<", "<a", "<p>x</p><br/>", "<!-- ", "<script>", "<é/>", "</", "<!"] {
            assert!(matches!(closed(page), Cow::Borrowed(_)), "{page}");
        }
        assert!(is_xml("\u{feff}\n<?xml version='1.0'?>") && !is_xml("<html>"));
    }
}
