//! `OpenDocument` (ISO/IEC 26300): texts, spreadsheets (sheets are pages) and presentations (slides are pages). The one part
//! with the content is read from front to back without recursion, so its depth costs no stack.

mod writer;

use lmao_events::Failure;
use quick_xml::{Reader, events::Event};

use super::{
    Extraction, Format, damaged, encrypted, finish, meta,
    package::{Package, text_of},
    title,
};
use writer::Writer;

pub(super) fn extract(package: &mut Package, format: Format) -> Result<Extraction, Failure> {
    let manifest = package.text("META-INF/manifest.xml")?.unwrap_or_default();
    if manifest.contains("encryption-data") {
        return Err(encrypted("document"));
    }
    let content = package.text("content.xml")?.ok_or_else(|| damaged("document", "it has no content.xml"))?;
    let mut writer = Writer::new(format);
    let broken = read(&content, &mut writer);
    let (builder, pages, declared) = writer.end();
    let mut extraction = finish(builder, None, None)?;
    extraction.pages = (format != Format::Odt).then_some(pages);
    if let Some(error) = broken {
        extraction.warnings.push(format!("the content is damaged, what comes after is lost: {error}"));
    }
    if let Ok(Some(text)) = package.text("meta.xml") {
        describe(&mut extraction, &text);
    }
    extraction.title = extraction.title.or(declared);
    Ok(extraction)
}

/// Hands the content to the writer; what stopped it before the end.
fn read(content: &str, writer: &mut Writer) -> Option<String> {
    let mut reader = Reader::from_str(content);
    reader.config_mut().expand_empty_elements = true;
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => writer.open(&element),
            Ok(Event::End(element)) => writer.close(element.name().as_ref()),
            Ok(Event::Eof) => return None,
            Ok(event) => {
                if let Some(text) = text_of(&event) {
                    writer.text(&text);
                }
            }
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// Title, authors, dates and keywords.
fn describe(extraction: &mut Extraction, text: &str) {
    let mut reader = Reader::from_str(text);
    let mut facts: Vec<(String, String)> = vec![];
    let mut open: Option<(String, String)> = None;
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) => open = Some((element.name().as_ref().to_owned(), String::new())),
            Event::End(_) => facts.extend(open.take()),
            Event::Eof => break,
            event => {
                if let (Some((_, fact)), Some(text)) = (&mut open, text_of(&event)) {
                    fact.push_str(&text);
                }
            }
        }
    }
    let all = |name: &'static str| {
        facts
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, text)| text.as_str())
            .filter(|text| !text.trim().is_empty())
    };
    extraction.title = all("dc:title").find_map(title);
    extraction.language = all("dc:language").find_map(meta::language_tag);
    extraction.authors = meta::names(all("meta:initial-creator").chain(all("dc:creator")));
    extraction.tags = meta::tags(all("meta:keyword"));
    extraction.written = all("meta:creation-date").chain(all("dc:date")).find_map(meta::date);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ingest::extract::tests::outline;

    fn check(format: Format, body: &str, expected: &expect_test::Expect) {
        let mut writer = Writer::new(format);
        let broken = read(&format!("<office:document-content><office:body>{body}"), &mut writer);
        assert_eq!(broken, None);
        let (builder, ..) = writer.end();
        expected.assert_eq(&outline(&builder.finish().unwrap()));
    }

    #[test]
    fn texts_keep_their_structure() {
        check(
            Format::Odt,
            r#"<style:style style:name="P1" style:parent-style-name="Preformatted_20_Text"/>
               <text:list-style style:name="L1"><text:list-level-style-number text:level="1"/></text:list-style>
               <text:h text:outline-level="2">Tea</text:h>
               <text:p>Hot<text:s text:c="3"/>&amp; <text:span>green</text:span><text:note><text:note-citation>1</text:note-citation>
               <text:note-body><text:p>A note.</text:p></text:note-body></text:note><office:annotation><text:p>no</text:p>
               </office:annotation></text:p>
               <text:list text:style-name="L1"><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>deep</text:p>
               </text:list-item></text:list></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>
               <text:p text:style-name="P1">fn x() {<text:line-break/><text:s text:c="4"/>y();</text:p>
               <text:p text:style-name="P1">}</text:p>
               <table:table table:name="T"><table:table-row><table:table-cell><text:p>a</text:p><text:p>b</text:p></table:table-cell>
               <table:table-cell table:number-columns-repeated="2"><text:p>c</text:p></table:table-cell></table:table-row>
               </table:table>"#,
            &expect![[r#"
                heading(2) "Tea"
                paragraph "Hot & green[1]" in Tea
                paragraph "[1] A note." in Tea
                list "1. one" in Tea
                list "  - deep" in Tea
                list "2. two" in Tea
                code "fn x() {\n    y();\n}" in Tea
                table "| a b | c | c |" in Tea
            "#]],
        );
    }

    #[test]
    fn sheets_and_slides_are_pages() {
        check(
            Format::Ods,
            r#"<table:table table:name="Sales"><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>
               <table:table-cell table:number-columns-repeated="16000"/></table:table-row><table:table-row
               table:number-rows-repeated="1048576"><table:table-cell/></table:table-row><table:table-row>
               <table:table-cell office:value="2"/></table:table-row></table:table>"#,
            &expect![[r#"
                heading(1) "Sales" on 1
                table "| x |\n| 2 |" in Sales on 1
            "#]],
        );
        check(
            Format::Odp,
            r#"<draw:page draw:name="page1"><draw:frame presentation:class="title"><draw:text-box><text:p>Tea</text:p>
               </draw:text-box></draw:frame><draw:frame><draw:text-box><text:p>hot</text:p></draw:text-box></draw:frame>
               <presentation:notes><draw:frame><draw:text-box><text:p>say so</text:p></draw:text-box></draw:frame>
               </presentation:notes></draw:page><draw:page><draw:frame><text:p>bare</text:p></draw:frame></draw:page>"#,
            &expect![[r#"
                heading(1) "Tea" on 1
                paragraph "hot" in Tea on 1
                heading(2) "Notes" in Tea on 1
                paragraph "say so" in Tea > Notes on 1
                heading(1) "Slide 2" on 2
                paragraph "bare" in Slide 2 on 2
            "#]],
        );
    }

    #[test]
    fn depth_costs_nothing() {
        let body = format!("{}<text:p>deep</text:p>", "<text:section><text:list><text:list-item>".repeat(50_000));
        let mut writer = Writer::new(Format::Odt);
        read(&format!("<office:body>{body}"), &mut writer);
        assert!(writer.end().0.finish().unwrap().text.ends_with("deep"));
    }
}
