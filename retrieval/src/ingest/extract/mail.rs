//! Mails (RFC 5322, MIME): who wrote to whom and when, the text with its quotes marked as such, and the attachments, each
//! extracted by its own format as a section named by its file. A mailbox is many of them, each a section.

mod mailbox;

use std::{borrow::Cow, collections::HashSet, io::Cursor};

use lmao_events::Failure;
use mail_parser::{Address, HeaderValue, Message, MessageParser, MimeHeaders, PartType};

use super::{
    Budget, Extraction, damaged, html,
    members::Members,
    meta::{date, names, tags},
    title,
};
use crate::text::Builder;

/// Parts of its text, and attachments, of a mail that are looked at.
const MAX_PARTS: usize = 1000;
/// Bytes of a list of addresses, as it is shown.
const ADDRESSES_BYTES: usize = 1000;

pub(super) fn extract(bytes: &[u8], budget: &mut Budget) -> Result<Extraction, Failure> {
    let mut mails = mailbox::mails(bytes);
    match (mails.next(), mails.next()) {
        (Some(first), Some(second)) => every([first, second].into_iter().chain(mails), budget),
        (Some(only), None) => single(&only, budget),
        (None, _) => single(bytes, budget),
    }
}

/// The mails of a mailbox.
fn every<'a>(mails: impl Iterator<Item = Cow<'a, [u8]>>, budget: &mut Budget) -> Result<Extraction, Failure> {
    let mut members = Members::new(Builder::new());
    for (number, mail) in (1..).zip(mails) {
        members.read(&format!("mail {number}.eml"), None, &mut Cursor::new(mail), budget)?;
    }
    members.finish()
}

fn single(bytes: &[u8], budget: &mut Budget) -> Result<Extraction, Failure> {
    let message = MessageParser::default().parse(bytes).ok_or_else(|| damaged("mail", "it has no headers"))?;
    let mut builder = Builder::new();
    let subject = message.subject().and_then(title);
    builder.heading(1, subject.as_deref().unwrap_or("(no subject)"));
    header(&mut builder, &message);
    let mut members = Members::new(builder);
    body(&mut members, &message)?;
    attachments(&mut members, &message, budget)?;
    let mut extraction = members.finish()?;
    extraction.title = subject;
    let senders: Vec<String> = message.from().map(|from| from.iter().filter_map(person).collect()).unwrap_or_default();
    extraction.authors = names(senders.iter().map(String::as_str));
    extraction.written = message.date().and_then(|written| date(&written.to_rfc3339()));
    extraction.tags = match message.keywords() {
        HeaderValue::Text(text) => tags([text.as_ref()]),
        HeaderValue::TextList(texts) => tags(texts.iter().map(AsRef::as_ref)),
        _ => vec![],
    };
    Ok(extraction)
}

/// The name of a person, or the address of one who gives none.
fn person(address: &mail_parser::Addr<'_>) -> Option<String> {
    address.name().or_else(|| address.address()).map(str::to_owned)
}

fn header(builder: &mut Builder, message: &Message<'_>) {
    let written = message.date().map(mail_parser::DateTime::to_rfc3339);
    let lines = [
        ("From", message.from().map(addresses)),
        ("To", message.to().map(addresses)),
        ("Cc", message.cc().map(addresses)),
        ("Date", written),
    ];
    for (name, value) in lines {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            builder.item(1, "-", &format!("{name}: {value}"));
        }
    }
}

fn addresses(list: &Address<'_>) -> String {
    let mut out = String::new();
    for address in list.iter() {
        let shown = match (address.name(), address.address()) {
            (Some(name), Some(address)) => format!("{name} <{address}>"),
            (name, address) => name.or(address).unwrap_or_default().to_owned(),
        };
        if out.len() + shown.len() > ADDRESSES_BYTES {
            out.push_str(", …");
            break;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&shown);
    }
    out
}

/// The text: of parts that say the same the plain form if it has words, else the page. What has one form only is read in that
/// one.
fn body(members: &mut Members, message: &Message<'_>) -> Result<(), Failure> {
    // Both lists have the parts without another form.
    let pages: HashSet<u32> = message.html_body.iter().copied().collect();
    let has_words = |id: &&u32| {
        message.part(**id).is_some_and(|part| matches!(&part.body, PartType::Text(text) if !text.trim().is_empty()))
    };
    let is_plain = message.text_body.iter().filter(|id| !pages.contains(id)).any(|id| has_words(&id));
    let parts = if is_plain { &message.text_body } else { &message.html_body };
    for id in parts.iter().take(MAX_PARTS) {
        match message.part(*id).map(|part| &part.body) {
            Some(PartType::Text(text)) => plain(&mut members.builder, text),
            Some(PartType::Html(page)) => {
                let found = html::extract(page)?;
                members.builder.extend(&found.document);
                found.warnings.into_iter().for_each(|warning| members.warn(warning));
            }
            _ => {}
        }
    }
    warn_of_more(members, "parts of its text", parts.len());
    Ok(())
}

/// Says what lies beyond the limit.
fn warn_of_more(members: &mut Members, what: &str, count: usize) {
    if count > MAX_PARTS {
        members.warn(format!("{} of {count} {what} were left out: at most {MAX_PARTS} are read", count - MAX_PARTS));
    }
}

/// Paragraphs of a plain text; quoted ones begin with as many `>` as they are deep, once.
fn plain(builder: &mut Builder, text: &str) {
    let mut open: (usize, Vec<&str>) = (0, vec![]);
    for line in text.lines() {
        let (depth, rest) = quoted(line);
        if depth != open.0 || rest.trim().is_empty() {
            flush(builder, &mut open);
        }
        open.0 = depth;
        if !rest.trim().is_empty() {
            open.1.push(rest);
        }
        // The line above a signature.
        if rest == "-- " {
            open.1.pop();
            flush(builder, &mut open);
        }
    }
    flush(builder, &mut open);
}

fn flush(builder: &mut Builder, (depth, lines): &mut (usize, Vec<&str>)) {
    let lines = std::mem::take(lines);
    if lines.is_empty() {
        return;
    }
    let mark = "> ".repeat((*depth).min(8));
    if *depth == 0 && lines.len() > 1 && lines.iter().all(|line| line.trim_start().starts_with(['-', '*', '•'])) {
        lines.iter().for_each(|line| builder.item(1, "-", line.trim_start().trim_start_matches(['-', '*', '•'])));
    } else {
        builder.paragraph(&format!("{mark}{}", lines.join("\n")));
    }
}

/// How deep a line is quoted, and what it says.
fn quoted(line: &str) -> (usize, &str) {
    let (mut depth, mut rest) = (0, line);
    while let Some(inner) = rest.strip_prefix('>').or_else(|| rest.strip_prefix(" >")) {
        depth += 1;
        rest = inner;
    }
    (depth, if depth > 0 { rest.strip_prefix(' ').unwrap_or(rest) } else { line })
}

fn attachments(members: &mut Members, message: &Message<'_>, budget: &mut Budget) -> Result<(), Failure> {
    for (number, part) in (1..).zip(message.attachments().take(MAX_PARTS)) {
        let extension = match &part.body {
            PartType::Message(_) => "eml",
            PartType::Html(_) => "html",
            PartType::Text(_) => "txt",
            _ => "bin",
        };
        let unnamed = || format!("attachment {number}.{extension}");
        let name = part.attachment_name().map_or_else(unnamed, str::to_owned);
        let content: &[u8] = match &part.body {
            PartType::Message(inner) => inner.raw_message(),
            PartType::Text(text) | PartType::Html(text) => text.as_bytes(),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes,
            PartType::Multipart(_) => continue,
        };
        members.read(&name, None, &mut Cursor::new(content), budget)?;
    }
    warn_of_more(members, "attachments", message.attachment_count());
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ingest::extract::tests::outline;

    #[test]
    fn a_mail_has_its_quotes_and_its_attachments() {
        let mail = "From: Ada Lovelace <ada@example.org>\r\nTo: b@example.org\r\nSubject: =?utf-8?q?Tee_f=C3=BCr_zwei?=\r\n\
            Date: Wed, 1 May 2024 10:30:00 +0200\r\nKeywords: tea, pots\r\nMIME-Version: 1.0\r\n\
            Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nHello\r\nthere.\r\n\r\n\
            > You said\r\n> so.\r\n> > Did I?\r\n\r\n--x\r\nContent-Type: text/csv; name=t.csv\r\n\
            Content-Disposition: attachment; filename=t.csv\r\n\r\na,b\r\n1,2\r\n--x\r\nContent-Type: image/png\r\n\
            Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=p.png\r\n\r\niVBORw0KGgoAAAAN\r\n\
            --x\r\nContent-Type: message/rfc822\r\n\r\nFrom: c@example.org\r\nSubject: Inner\r\n\
            Date: Wed, 1 May 2024 10:30:00 +0200\r\n\r\nDeep words.\r\n--x--\r\n";
        let found = extract(mail.as_bytes(), &mut Budget::new()).unwrap();
        expect![[r#"
            heading(1) "Tee für zwei"
            list "- From: Ada Lovelace <ada@example.org>" in Tee für zwei
            list "- To: b@example.org" in Tee für zwei
            list "- Date: 2024-05-01T10:30:00+02:00" in Tee für zwei
            paragraph "Hello there." in Tee für zwei
            paragraph "> You said so." in Tee für zwei
            paragraph "> > Did I?" in Tee für zwei
            heading(1) "t.csv"
            table "| a | b |\n| 1 | 2 |" in t.csv
            heading(1) "attachment 3.eml"
            heading(2) "Inner" in attachment 3.eml
            list "- From: c@example.org" in attachment 3.eml > Inner
            list "- Date: 2024-05-01T10:30:00+02:00" in attachment 3.eml > Inner
            paragraph "Deep words." in attachment 3.eml > Inner
        "#]]
        .assert_eq(&outline(&found.document));
        assert_eq!(found.title.as_deref(), Some("Tee für zwei"));
        assert_eq!((found.authors, found.tags), (vec!["Ada Lovelace".to_owned()], vec!["tea".into(), "pots".into()]));
        assert_eq!(found.written.as_deref(), Some("2024-05-01T10:30:00+02:00"));
        assert_eq!(found.warnings, ["1 files in it are no text (1 png)"]);
    }

    /// What is found in a mail of such parts, each its headers and its text.
    fn mixed(parts: &str) -> Extraction {
        let mail = format!(
            "From: a@b.c\r\nSubject: S\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
             {parts}--x--\r\n"
        );
        extract(mail.as_bytes(), &mut Budget::new()).unwrap()
    }

    #[test]
    fn a_page_with_a_plain_footer_is_read_with_it() {
        let footer = "--x\r\nContent-Type: text/plain\r\n\r\nThe footer.\r\n";
        let page = "--x\r\nContent-Type: text/html\r\n\r\n<p>The page.</p>\r\n";
        let both = |plain: &str| {
            format!(
                "--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n--y\r\nContent-Type: text/plain\r\n\r\n\
                 {plain}\r\n--y\r\nContent-Type: text/html\r\n\r\n<p>The page.</p>\r\n--y--\r\n"
            )
        };
        for (parts, expected) in [
            (format!("{page}{footer}"), "The page.\n\nThe footer."),
            (format!("{footer}{page}"), "The footer.\n\nThe page."),
            (format!("{}{footer}", both("The text.")), "The text.\n\nThe footer."),
            (format!("{}{footer}", both(" ")), "The page.\n\nThe footer."),
            (both("The text."), "The text."),
        ] {
            let text = mixed(&parts).document.text;
            assert!(text.ends_with(&format!("- From: a@b.c\n\n{expected}")), "{text}");
        }
    }

    #[test]
    fn what_lies_beyond_the_limit_is_told() {
        let text = "--x\r\nContent-Type: text/plain\r\n\r\nw\r\n".repeat(MAX_PARTS + 2);
        let file = "--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=f.txt\r\n\r\nf\r\n";
        let found = mixed(&format!("{text}{}", file.repeat(MAX_PARTS + 1)));
        assert_eq!(
            found.warnings,
            [
                "2 of 1002 parts of its text were left out: at most 1000 are read",
                "1 of 1001 attachments were left out: at most 1000 are read"
            ]
        );
    }

    #[test]
    fn a_mailbox_has_all_its_mails() {
        let mail = |number: usize| {
            format!(
                "From a@b.c Wed May  1 10:30:00 2024\nFrom: a@b.c\nSubject: Mail {number}\nMessage-ID: <{number}@b.c>\n\n\
                 Words {number}.\n\n"
            )
        };
        let found = extract((1..=2).map(mail).collect::<String>().as_bytes(), &mut Budget::new()).unwrap();
        expect![[r#"
            heading(1) "mail 1.eml"
            heading(2) "Mail 1" in mail 1.eml
            list "- From: a@b.c" in mail 1.eml > Mail 1
            paragraph "Words 1." in mail 1.eml > Mail 1
            heading(1) "mail 2.eml"
            heading(2) "Mail 2" in mail 2.eml
            list "- From: a@b.c" in mail 2.eml > Mail 2
            paragraph "Words 2." in mail 2.eml > Mail 2
        "#]]
        .assert_eq(&outline(&found.document));
        let one = extract(mail(1).as_bytes(), &mut Budget::new()).unwrap();
        assert_eq!((one.title.as_deref(), one.document.blocks.len()), (Some("Mail 1"), 3));
        let many: String = (1..=10_001).map(mail).collect();
        let failure = extract(many.as_bytes(), &mut Budget::new()).unwrap_err();
        assert_eq!(failure.reason, "document_too_large");
    }

    #[test]
    fn mails_within_mails_end_at_a_depth() {
        let mut mail =
            "From: a@b.c\r\nSubject: 0\r\nDate: Wed, 1 May 2024 10:30:00 +0200\r\n\r\nInnermost.\r\n".to_owned();
        for level in 1..50 {
            mail = format!(
                "From: a@b.c\r\nSubject: {level}\r\nDate: Wed, 1 May 2024 10:30:00 +0200\r\nMIME-Version: 1.0\r\n\
                 Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\nContent-Type: message/rfc822\r\n\r\n\
                 {mail}\r\n--b{level}--\r\n"
            );
        }
        let found = extract(mail.as_bytes(), &mut Budget::new()).unwrap();
        assert!(found.warnings.iter().any(|warning| warning.contains("archives deep")), "{:?}", found.warnings);
        assert!(found.document.text.contains("49") && !found.document.text.contains("Innermost"));
    }
}
