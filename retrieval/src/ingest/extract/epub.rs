//! E-books (EPUB 2 and 3): the chapters in the order of reading, each an XHTML page.

use std::collections::HashMap;

use lmao_events::Failure;
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use super::{
    Extraction, damaged, encrypted, finish, html, meta,
    package::{Package, attribute, text_of},
    title,
};
use crate::text::Builder;

/// Parts that a book may list.
const MAX_PARTS: usize = 10_000;
/// Bytes of a chapter that is expected to have text. A page that only shows a picture is smaller.
const CHAPTER_BYTES: usize = 1024;
/// Chapters without text that are named.
const MAX_NAMED: usize = 20;

pub(super) fn extract(package: &mut Package) -> Result<Extraction, Failure> {
    let container =
        package.text("META-INF/container.xml")?.ok_or_else(|| damaged("e-book", "it has no container.xml"))?;
    let root = root_file(&container).ok_or_else(|| damaged("e-book", "its container names no package"))?;
    let opf = package.text(&root)?.ok_or_else(|| damaged("e-book", "its package is missing"))?;
    let book = Book::read(&opf);
    let locked = package.text("META-INF/encryption.xml")?.unwrap_or_default();
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut builder = Builder::new();
    let mut warnings = vec![];
    let (mut empty, mut large, mut chapters) = (0, 0, 0);
    for id in book.spine.iter().take(MAX_PARTS) {
        let Some(part) = book.parts.get(id).filter(|part| !part.is_navigation) else { continue };
        let path = resolve(folder, &part.href);
        // Fonts are often obscured, which is no lock; a chapter that is listed can't be read.
        if locked.contains(&format!("\"{path}\"")) {
            return Err(encrypted("e-book"));
        }
        chapters += 1;
        match package.text(&path) {
            Ok(Some(page)) => {
                let found = html::extract_xml(&page)?;
                warnings.extend(found.warnings.into_iter().map(|warning| format!("{path}: {warning}")));
                if found.document.blocks.is_empty() {
                    empty += 1;
                    large += usize::from(page.len() > CHAPTER_BYTES);
                    if page.len() > CHAPTER_BYTES && large <= MAX_NAMED {
                        warnings.push(format!("the chapter {path} gave no text, though it has {} bytes", page.len()));
                    }
                }
                builder.extend(&found.document);
            }
            Ok(None) => warnings.push(format!("the chapter {path} is missing")),
            Err(failure) => warnings.push(failure.message),
        }
    }
    if chapters == 0 {
        return Err(damaged("e-book", "it lists no chapters"));
    }
    if large > MAX_NAMED {
        warnings.push(format!("{} more large chapters gave no text", large - MAX_NAMED));
    }
    // A cover or a plate or two are pictures in most books.
    if empty * 2 > chapters {
        warnings.push(format!("{empty} of {chapters} chapters gave no text (pictures or damaged)"));
    }
    let mut extraction = finish(builder, book.first("title").and_then(title), None)?;
    extraction.language = book.first("language").and_then(meta::language_tag);
    extraction.authors = meta::names(book.all("creator"));
    extraction.tags = meta::tags(book.all("subject"));
    extraction.written = book.all("date").find_map(meta::date);
    extraction.warnings = warnings;
    Ok(extraction)
}

/// The package document that the container names first (OCF 3.3).
fn root_file(container: &str) -> Option<String> {
    let mut reader = Reader::from_str(container);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) if element.local_name().as_ref() == "rootfile" => {
                return attribute(&element, "full-path").filter(|path| !path.is_empty());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// What a package document says.
#[derive(Debug, Default)]
struct Book {
    /// Dublin Core elements: name and text.
    facts: Vec<(String, String)>,
    parts: HashMap<String, Part>,
    spine: Vec<String>,
}

#[derive(Debug)]
struct Part {
    href: String,
    is_navigation: bool,
}

impl Book {
    /// Reads as far as it is well-formed.
    fn read(opf: &str) -> Self {
        let mut book = Self::default();
        let mut reader = Reader::from_str(opf);
        let mut open: Option<(String, String)> = None;
        while let Ok(event) = reader.read_event() {
            match event {
                Event::Empty(element) => book.element(&element),
                Event::Start(element) => {
                    book.element(&element);
                    let name = element.local_name();
                    let known = matches!(name.as_ref(), "title" | "creator" | "language" | "date" | "subject");
                    open = known.then(|| (name.as_ref().to_owned(), String::new()));
                }
                Event::End(_) => book.facts.extend(open.take()),
                Event::Eof => break,
                event => {
                    if let (Some((_, fact)), Some(text)) = (&mut open, text_of(&event)) {
                        fact.push_str(&text);
                    }
                }
            }
        }
        book
    }

    fn element(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            "item" if self.parts.len() < MAX_PARTS => {
                let value = |name| attribute(element, name).unwrap_or_default();
                let is_navigation = value("properties").split(' ').any(|property| property == "nav");
                self.parts.insert(value("id"), Part { href: value("href"), is_navigation });
            }
            "itemref" if self.spine.len() < MAX_PARTS => self.spine.extend(attribute(element, "idref")),
            _ => {}
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.facts
            .iter()
            .filter(move |(known, text)| known == name && !text.trim().is_empty())
            .map(|(_, text)| text.as_str())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(known, text)| known == name && !text.trim().is_empty()).map(|(_, text)| text.as_str())
    }
}

/// The path of a part: relative to the package document, percent-encoded, its fragment left out.
fn resolve(folder: &str, href: &str) -> String {
    let href = href.split('#').next().unwrap_or_default();
    let mut bytes = vec![];
    let mut rest = href.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let href = String::from_utf8_lossy(&bytes).into_owned();
    let mut path: Vec<&str> = if href.starts_with('/') { vec![] } else { folder.split('/').collect() };
    for step in href.split('/') {
        match step {
            "" | "." => {}
            ".." => _ = path.pop(),
            step => path.push(step),
        }
    }
    path.retain(|step| !step.is_empty());
    path.join("/")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::ingest::extract::Source;

    /// What is found in a book of these chapters.
    fn book(chapters: &[String]) -> Extraction {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
        let mut write = |name: &str, text: &str| {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        };
        let (mut items, mut spine) = (String::new(), String::new());
        for (number, chapter) in chapters.iter().enumerate() {
            items += &format!("<item id='c{number}' href='{number}.xhtml'/>");
            spine += &format!("<itemref idref='c{number}'/>");
            write(&format!("{number}.xhtml"), chapter);
        }
        write("META-INF/container.xml", "<container><rootfile full-path='b.opf'/></container>");
        write("b.opf", &format!("<package><manifest>{items}</manifest><spine>{spine}</spine></package>"));
        let bytes = archive.finish().unwrap().into_inner();
        extract(&mut Package::open(Source::Bytes(bytes)).unwrap()).unwrap()
    }

    #[test]
    fn chapters_are_xml_and_large_ones_without_text_are_told() {
        let chapter = "<html><head><title/><script src='a.js'/></head><body><p>Words.</p></body></html>";
        let picture = |bytes: usize| format!("<html><body><img alt='{}'/></body></html>", "x".repeat(bytes));
        let found = book(&[chapter.into(), chapter.into(), chapter.into(), picture(10), picture(2000)]);
        assert_eq!(found.document.text, "Words.\n\nWords.\n\nWords.");
        assert_eq!(found.warnings, ["the chapter 4.xhtml gave no text, though it has 2039 bytes"]);
        let many: Vec<String> = (0..25).map(|_| picture(2000)).collect();
        let warnings = book(&many).warnings;
        assert_eq!(
            warnings[20..],
            ["5 more large chapters gave no text", "25 of 25 chapters gave no text (pictures or damaged)"]
        );
    }

    #[test]
    fn paths_are_relative_to_the_package() {
        assert_eq!(resolve("OEBPS", "text/ch%201.xhtml#a"), "OEBPS/text/ch 1.xhtml");
        assert_eq!(resolve("OEBPS/x", "../../../ch.xhtml"), "ch.xhtml");
        assert_eq!(resolve("", "ch%.xhtml"), "ch%.xhtml");
    }

    #[test]
    fn a_package_is_read_as_far_as_it_goes() {
        let book = Book::read(
            "<package><metadata><dc:title>Tea &amp; pots</dc:title><dc:creator>A</dc:creator><dc:creator>B</dc:creator>\
             </metadata><manifest><item id='n' href='n.xhtml' properties='nav'/><item id='c' href='c.xhtml'/></manifest>\
             <spine><itemref idref='c'/></spine><broken",
        );
        assert_eq!(book.first("title"), Some("Tea & pots"));
        assert_eq!(book.all("creator").collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!((book.spine.len(), book.parts["n"].is_navigation), (1, true));
        assert_eq!(root_file("<container><rootfiles/></container>"), None);
    }
}
