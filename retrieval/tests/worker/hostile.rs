//! Files made to cause harm, or damaged as mishaps leave them: each ends with its text, or with a reason.

use std::io::Write as _;

use crate::support::{World, gzipped, pdf, zipped};

/// Runs all of them.
pub(crate) async fn run(world: &World) {
    programs_are_cut_by_their_syntax(world).await;
    a_program_that_kills_its_parser_is_cut_by_lines(world).await;
    deep_html_ends(world).await;
    pages_of_a_pdf_are_known(world).await;
    a_cut_pdf_says_what_is_lost(world).await;
    an_encrypted_pdf_is_named(world).await;
    hostile_pdfs_end(world).await;
    bombs_are_refused(world).await;
    deep_documents_end(world).await;
    absurd_sheets_end(world).await;
    large_pages_end(world).await;
    large_plain_files_end(world).await;
    a_dropped_call_leaves_no_child(world).await;
}

async fn programs_are_cut_by_their_syntax(world: &World) {
    let method = |n: usize| {
        let body: String = (0..20).map(|m| format!("        total_{m} = compute(n, {m}, {n})\n")).collect();
        format!("    def method_{n}(self, n):\n{body}        return total_0\n\n")
    };
    let class = |n: usize| format!("class Kind{n}(Base):\n{}", (0..4).map(method).collect::<String>());
    let program: String = (0..6).map(class).collect();
    let guide = format!("# Kinds\n\nOf all kinds.\n\n```python\n{program}```\n\nThat was it.\n");
    for (filename, text) in [("kinds.py", program), ("guide.md", guide)] {
        let passages = world.chunk(filename, text.into_bytes()).await;
        let is_method = |at: &str| at.ends_with("class Kind5(Base) > def method_3");
        let found = passages.iter().any(|passage| passage.section.as_deref().is_some_and(is_method));
        assert!(found, "{filename}: {passages:#?}");
        let is_member = |at: &str| at.contains("class Kind");
        let members = passages.iter().filter(|passage| passage.section.as_deref().is_some_and(is_member));
        let whole = members.filter(|passage| passage.chunk_type == "code" && passage.parent.is_some());
        assert!(whole.count() > 20, "{filename}: {passages:#?}");
    }
}

async fn a_program_that_kills_its_parser_is_cut_by_lines(world: &World) {
    // The grammar's scanner keeps the length of the word in one byte, and aborts when it reads that back.
    let word = "A".repeat(300);
    let body = |n: usize| (0..40).map(|m| format!("  total_{m} = compute(a, {m}, {n})\n")).collect::<String>();
    let methods: String = (0..20).map(|n| format!("def method_{n}(a)\n{}end\n\n", body(n))).collect();
    let program = format!("{methods}text = <<{word}\nsome words\n{word}\n\n{methods}");
    let passages = world.chunk("heredoc.rb", program.clone().into_bytes()).await;
    let content = |passage: &lmao_ports::ChunkRecord| passage.content.clone();
    let all: String = passages.iter().map(content).collect();
    let letters = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(letters(&all), letters(&program));
    assert!(passages.iter().all(|passage| passage.chunk_type == "code" && passage.section.is_none()), "{passages:#?}");
    // Nothing is left of it: the next program is parsed.
    let passages = world.chunk("fine.rb", methods.into_bytes()).await;
    assert!(passages.iter().any(|passage| passage.section.as_deref().is_some_and(|at| at.starts_with("def method"))));
}

async fn deep_html_ends(world: &World) {
    for (open, close) in
        [("<div>", "</div>"), ("<ul><li>", "</ul>"), ("<table><tr><td>", ""), ("<b>", ""), ("<p><i>", "")]
    {
        let page =
            format!("<!doctype html><title>t</title>{}deep words{}", open.repeat(100_000), close.repeat(100_000));
        let (extracted, text) = world.extract("deep.html", page.into_bytes()).await.expect(open);
        assert_eq!(extracted.format, "html");
        assert!(text.text.ends_with("deep words"), "{open}: {:?}", text.text);
    }
}

/// What takes many times its bytes in memory is read in the child; what is only long, is taken there.
async fn large_plain_files_end(world: &World) {
    let of = |piece: &str, mib: usize| piece.repeat((mib << 20) / piece.len()).into_bytes();
    let long = of("A line of a long log that somebody wants to search.\n\n", 24);
    let (extracted, _) = world.extract("long.txt", long).await.expect("a long text");
    assert!(extracted.words > 4_000_000, "{}", extracted.words);
    for (name, bytes, reasons) in [
        ("letters.txt", of("a\n\n", 8), &["document_too_large"][..]),
        ("pages.txt", [&b"a"[..], &of("\u{c}", 5)].concat(), &["none"]),
        ("wide.csv", [&b"a,b\nc,d\ne"[..], &of(",", 24), b"\n"].concat(), &["none", "extraction_crashed"]),
    ] {
        let found = world.extract(name, bytes).await;
        let reason = found.as_ref().map_or_else(|failure| failure.reason.as_str(), |_| "none");
        assert!(reasons.contains(&reason), "{name}: {reason}");
    }
}

async fn pages_of_a_pdf_are_known(world: &World) {
    // The name lies; the content tells.
    let file = pdf(&["The first page speaks of owls.", "", "The third page speaks of wrens."], "");
    let (extracted, text) = world.extract("notes.txt", file).await.expect("a whole PDF");
    assert_eq!((extracted.format.as_str(), extracted.pages, extracted.words), ("pdf", Some(3), 12));
    assert_eq!(extracted.title.as_deref(), Some("Birds"));
    assert_eq!(extracted.warnings, ["1 of 3 pages gave no text (empty, scanned or damaged)"]);
    let pages: Vec<_> = text.blocks.iter().map(|block| (block.page, text.slice(block))).collect();
    assert_eq!(pages, [(Some(1), "The first page speaks of owls."), (Some(3), "The third page speaks of wrens.")]);
    let failure = world.extract("scan.pdf", pdf(&["", ""], "")).await.expect_err("no text at all");
    assert_eq!((failure.reason.as_str(), failure.retryable), ("no_text", false));
    assert!(failure.message.contains("OCR"), "{}", failure.message);
}

async fn a_cut_pdf_says_what_is_lost(world: &World) {
    let pages: Vec<String> = (0..40).map(|n| format!("Page number {n} of a document that will be cut.")).collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let whole = pdf(&pages, "");
    let (extracted, _) = world.extract("cut.pdf", whole[..whole.len() * 6 / 10].to_vec()).await.expect("what is left");
    assert!(extracted.warnings[0].contains("the end of the file is missing"), "{:?}", extracted.warnings);
    let failure = world.extract("cut.pdf", whole[..60].to_vec()).await.expect_err("nothing is left");
    assert!(["damaged_pdf", "no_text"].contains(&failure.reason.as_str()), "{failure:?}");
    assert!(!failure.retryable);
}

/// The fixtures were made by `qpdf --encrypt`: one that anybody may read but not print, and one that asks for a password.
async fn an_encrypted_pdf_is_named(world: &World) {
    let readable = include_bytes!("../fixtures/owner-password.pdf").to_vec();
    let (_, text) = world.extract("readable.pdf", readable).await.expect("no password is needed to read");
    assert_eq!(text.text, "Anybody may read this page, but not print it.");
    let secret = include_bytes!("../fixtures/user-password.pdf").to_vec();
    let failure = world.extract("secret.pdf", secret).await.expect_err("a password is needed");
    assert_eq!((failure.reason.as_str(), failure.retryable), ("encrypted_pdf", false));
}

async fn hostile_pdfs_end(world: &World) {
    let nested = format!("/Nested {}{}", "[".repeat(200_000), "]".repeat(200_000));
    let cycle = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>endobj\n\
        trailer<</Root 1 0 R>>\n%%EOF"
        .to_vec();
    let noise = [
        b"%PDF-1.7\n".to_vec(),
        (0..100_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect(),
    ]
    .concat();
    let failure = world.extract("cycle.pdf", cycle).await.expect_err("pages without end");
    assert_eq!((failure.reason.as_str(), failure.retryable), ("damaged_pdf", false), "{}", failure.message);
    for (name, bytes) in [("nested", pdf(&["x"], &nested)), ("noise", noise)] {
        // Text or a lasting failure: either is an end.
        if let Err(failure) = world.extract("hostile.pdf", bytes).await {
            assert!(!failure.retryable && !failure.message.is_empty(), "{name}: {failure:?}");
        }
    }
}

/// Archives and packages that unpack to far more than they are, or into each other for ever.
async fn bombs_are_refused(world: &World) {
    let words = |bytes: usize| b"words and more words\n".repeat(bytes / 21);
    let bomb = zipped(&[("a.txt", &words(80 << 20))]);
    assert!(bomb.len() < 1 << 20);
    let mut nested = zipped(&[("a.txt", b"innermost")]);
    for _ in 0..8 {
        nested = zipped(&[("inner.zip", &nested), ("beside.txt", b"words beside it")]);
    }
    let names: Vec<String> = (0..10_001).map(|at| format!("{at}.txt")).collect();
    let crowd: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let inner = zipped(&[("inner.zip", &bomb), ("b.txt", b"words")]);
    let part = |name: &'static str, xml: &[u8]| zipped(&[("[Content_Types].xml", b"<Types/>"), (name, xml)]);
    let text = [b"<w:document><w:body><w:p><w:r><w:t>".to_vec(), words(250 << 20)].concat();
    let cases = [
        ("bomb.zip", bomb, "document_too_large"),
        ("inside.zip", inner, "document_too_large"),
        ("crowd.zip", zipped(&crowd), "document_too_large"),
        ("bomb.txt.gz", gzipped(&words(300 << 20)), "document_too_large"),
        ("bomb.docx", part("word/document.xml", &text), "damaged_file"),
        ("empty.zip", zipped(&[]), "no_text"),
        ("cut.zip", nested[..nested.len() / 2].to_vec(), "damaged_file"),
        ("cut.tar.gz", gzipped(&words(1 << 20))[..1000].to_vec(), "damaged_file"),
    ];
    for (name, bytes, reason) in cases {
        let failure = world.extract(name, bytes).await.expect_err(name);
        assert_eq!((failure.reason.as_str(), failure.retryable), (reason, false), "{name}: {}", failure.message);
    }
    let (extracted, text) = world.extract("nested.zip", nested).await.expect("what is not too deep");
    assert!(text.text.contains("words beside it") && !text.text.contains("innermost"));
    assert!(extracted.warnings.iter().any(|warning| warning.contains("archives deep")), "{:?}", extracted.warnings);
}

/// Elements, groups, lists and parts that lie in each other a hundred thousand deep.
async fn deep_documents_end(world: &World) {
    const DEEP: usize = 100_000;
    let opf =
        b"<package><manifest><item id='c' href='c.xhtml'/></manifest><spine><itemref idref='c'/></spine></package>";
    let root = b"<container><rootfiles><rootfile full-path='p.opf'/></rootfiles></container>";
    let page = format!("<html><body>{}deep words", "<div>".repeat(DEEP));
    let epub = zipped(&[
        ("mimetype", b"application/epub+zip"),
        ("META-INF/container.xml", root),
        ("p.opf", opf),
        ("c.xhtml", page.as_bytes()),
    ]);
    let odt = |body: String| {
        let content = format!("<office:document-content><office:body>{body}<text:p>deep words</text:p>");
        zipped(&[("mimetype", b"application/vnd.oasis.opendocument.text"), ("content.xml", content.as_bytes())])
    };
    let docx = |open: &str| {
        let xml = format!("<w:document><w:body>{}<w:p><w:r><w:t>deep words</w:t></w:r></w:p>", open.repeat(DEEP));
        let types = b"<Types><Override PartName='/word/document.xml' ContentType='application/vnd.openxmlformats-officedocument.\
            wordprocessingml.document.main+xml'/></Types>";
        let rels = b"<Relationships><Relationship Id='r' Type='http://schemas.openxmlformats.org/officeDocument/2006/relationships/\
            officeDocument' Target='word/document.xml'/></Relationships>";
        zipped(&[("[Content_Types].xml", types), ("_rels/.rels", rels), ("word/document.xml", xml.as_bytes())])
    };
    let mail = |header: &str| {
        let parts: String =
            (0..DEEP / 10).map(|at| format!("--b\r\nContent-Type: {header}; boundary=b{at}\r\n\r\n")).collect();
        format!(
            "From: a@b.c\r\nSubject: s\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}"
        )
    };
    let cases = [
        ("deep.epub", epub),
        ("sections.odt", odt("<text:section>".repeat(DEEP))),
        ("lists.odt", odt("<text:list><text:list-item>".repeat(DEEP))),
        ("tables.odt", odt("<table:table><table:table-row><table:table-cell>".repeat(DEEP))),
        ("tables.docx", docx("<w:tbl><w:tr><w:tc>")),
        ("boxes.docx", docx("<w:p><w:r><w:pict><v:textbox><w:txbxContent>")),
        ("deep.rtf", [b"{\\rtf1 ".repeat(DEEP), b"deep words".to_vec()].concat()),
        ("parts.eml", mail("multipart/mixed").into_bytes()),
        ("mails.eml", mail("message/rfc822").into_bytes()),
        ("deep.json", [b"[".repeat(DEEP), b"1".to_vec(), b"]".repeat(DEEP)].concat()),
        ("deep.jsonl", [b"{}\n".to_vec(), b"{\"a\":".repeat(DEEP)].concat()),
        ("quotes.md", [b"> ".repeat(DEEP), b"deep words".to_vec()].concat()),
        ("lists.md", (0..2000).map(|at| format!("{}- x\n", "  ".repeat(at))).collect::<String>().into_bytes()),
    ];
    for (name, bytes) in cases {
        ends(world, name, bytes).await;
    }
}

/// Sheets that say they are as large as sheets can be, and texts that stand for many more.
async fn absurd_sheets_end(world: &World) {
    let types = b"<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'><Override PartName='/xl/workbook.xml' \
        ContentType='application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml'/></Types>";
    let rels = b"<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'><Relationship Id='rId1' Type='http://schemas.openxmlformats.org/officeDocument/2006/\
        relationships/officeDocument' Target='xl/workbook.xml'/></Relationships>";
    let book = b"<workbook xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'><sheets><sheet name='S' sheetId='1' r:id='rId1'/></sheets></workbook>";
    let book_rels = b"<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'><Relationship Id='rId1' Type='http://schemas.openxmlformats.org/officeDocument/2006/\
        relationships/worksheet' Target='worksheets/sheet1.xml'/></Relationships>";
    let cell = |place: &str| format!("<c r='{place}' t='inlineStr'><is><t>corner</t></is></c>");
    let sheet = format!(
        "<worksheet><dimension ref='A1:XFD1048576'/><sheetData><row r='1'>{}</row><row r='1048576'>{}</row></sheetData>\
         <mergeCells><mergeCell ref='A1:XFD1048576'/></mergeCells></worksheet>",
        cell("A1"),
        cell("XFD1048576")
    );
    let xlsx = zipped(&[
        ("[Content_Types].xml", types),
        ("_rels/.rels", rels),
        ("xl/workbook.xml", book),
        ("xl/_rels/workbook.xml.rels", book_rels),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
    ]);
    ends(world, "absurd.xlsx", xlsx).await;
    let ods = |rows: usize| {
        let row = "<table:table-row table:number-rows-repeated='1048576'><table:table-cell table:number-columns-repeated='16384'>\
                   <text:p>many</text:p></table:table-cell></table:table-row>";
        let content = format!(
            "<x><office:body><office:spreadsheet><table:table table:name='T'>{}</table:table>",
            row.repeat(rows)
        );
        zipped(&[("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", content.as_bytes())])
    };
    let (_, text) = world.extract("absurd.ods", ods(1)).await.expect("as much of it as anybody reads");
    assert!(text.text.len() < 16 << 20);
    let failure = world.extract("absurd.ods", ods(5000)).await.expect_err("too much");
    assert!(["document_too_large", "extraction_crashed"].contains(&failure.reason.as_str()), "{failure:?}");
}

/// A page of a PDF that unpacks to a gigabyte, and one of words without order.
async fn large_pages_end(world: &World) {
    let mut packed = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(b"BT /F 12 Tf (words) Tj ").expect("memory");
    let blank = vec![b' '; 1 << 20];
    (0..1024).for_each(|_| packed.write_all(&blank).expect("memory"));
    let packed = packed.finish().expect("memory");
    let mut file =
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
        3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R>>endobj\n"
            .to_vec();
    writeln!(file, "4 0 obj<</Filter/FlateDecode/Length {}>>stream", packed.len()).expect("memory");
    file.extend(packed);
    file.extend(b"\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF");
    ends(world, "large.pdf", file).await;
    let scattered: String = (0..60_000_u64)
        .map(|at| format!("1 0 0 1 {} {} Tm (w{at}) Tj ", at * 7919 % 600, at * 104_729 % 780))
        .collect();
    ends(world, "scattered.pdf", pdf(&[&format!("x) Tj {scattered} (y")], "")).await;
    let ruled: String = (0..20_000_u32).map(|at| format!("{} 10 m {} 700 l S ", at % 600, at % 600)).collect();
    ends(world, "ruled.pdf", pdf(&[&format!("x) Tj ET {ruled} BT /F 12 Tf (y")], "")).await;
}

/// Text or a lasting failure: either is an end, and says something.
async fn ends(world: &World, name: &str, bytes: Vec<u8>) {
    match world.extract(name, bytes).await {
        Ok((_, text)) => assert!(!text.blocks.is_empty(), "{name}"),
        Err(failure) => {
            assert!(!failure.retryable && !failure.message.is_empty(), "{name}: {failure:?}");
            assert_ne!(failure.reason, "internal_error", "{name}: {}", failure.message);
            println!("{name}: {}", failure.reason);
        }
    }
}

#[cfg(target_os = "linux")]
async fn a_dropped_call_leaves_no_child(world: &World) {
    let children = || {
        let mine = std::process::id().to_string();
        let parent = |stat: &str| stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
        let all = std::fs::read_dir("/proc").expect("a list of processes").flatten();
        let stats = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        stats.filter(|stat| !stat.contains(") Z ") && parent(stat).as_deref() == Some(&mine)).count()
    };
    let page = format!("<!doctype html>{}", "<p><b>words".repeat(400_000));
    let call = world.extract("long.html", page.into_bytes());
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(300), call).await.is_err(),
        "the call ended too soon"
    );
    for _ in 0..200 {
        if children() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("a child outlived its call");
}

#[cfg(not(target_os = "linux"))]
async fn a_dropped_call_leaves_no_child(_: &World) {}
