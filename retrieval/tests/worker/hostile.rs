//! Files made to cause harm, or damaged as mishaps leave them: each ends with its text, or with a reason.

use crate::support::{World, pdf};

/// Runs all of them.
pub(crate) async fn run(world: &World) {
    deep_html_ends(world).await;
    pages_of_a_pdf_are_known(world).await;
    a_cut_pdf_says_what_is_lost(world).await;
    an_encrypted_pdf_is_named(world).await;
    hostile_pdfs_end(world).await;
    a_dropped_call_leaves_no_child(world).await;
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
    for (name, bytes) in [("nested", pdf(&["x"], &nested)), ("cycle", cycle), ("noise", noise)] {
        // Text or a lasting failure: either is an end.
        if let Err(failure) = world.extract("hostile.pdf", bytes).await {
            assert!(!failure.retryable && !failure.message.is_empty(), "{name}: {failure:?}");
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
