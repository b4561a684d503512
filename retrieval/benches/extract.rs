//! How fast text is taken out of files: pages of PDF with their structure and as plain text, rows of sheets, and the other
//! formats by size. Each file goes through the real worker process; CPU time of the children is what counts, because other
//! work on the machine does not change it.
//!
//! One JSON object a line for machines, a table on standard error for people.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that meets what it did not expect ends"
)]

#[path = "../tests/worker/support.rs"]
mod support;

use std::{io::Write as _, process::ExitCode, time::Instant};

use lmao_retrieval::ingest::worker_main;
use support::World;

/// The argument that makes this program the child.
const CHILD: &str = "extract";
const PAGES: u32 = 300;
const ROUNDS: u32 = 3;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD) {
        return worker_main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new();
        let prose = (0..PAGES).map(|page| lines(page, 45)).collect::<Vec<_>>();
        let pages: Vec<&str> = prose.iter().map(String::as_str).collect();
        let book = support::pdf(&pages, "");
        plain(&book);
        measure(&world, "pdf", "book.pdf", book, PAGES, "pages").await;
        measure(&world, "csv", "table.csv", table(200_000).into_bytes(), 200_000, "rows").await;
        measure(&world, "html", "page.html", page(20_000).into_bytes(), 20_000, "paragraphs").await;
        measure(&world, "jsonl", "records.jsonl", records(100_000).into_bytes(), 100_000, "records").await;
        measure(&world, "rtf", "text.rtf", rtf(20_000).into_bytes(), 20_000, "paragraphs").await;
    });
    ExitCode::SUCCESS
}

/// Sentences, each other than all before.
fn lines(seed: u32, count: u32) -> String {
    let words = "the river runs through a wide valley where farmers grow barley and wheat under old trees that shade stone houses";
    let words: Vec<&str> = words.split(' ').collect();
    let mut seed = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut word = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        words[(seed >> 16) as usize % words.len()]
    };
    let line = |_| (0..12).map(|_| word()).collect::<Vec<_>>().join(" ");
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

fn table(rows: u32) -> String {
    (0..rows)
        .fold("number,name,note\n".to_owned(), |text, row| text + &format!("{row},name of {row},\"a note, quoted\"\n"))
}

fn page(paragraphs: u32) -> String {
    let body: String = (0..paragraphs).map(|at| format!("<p>{}</p>", lines(at, 2))).collect();
    format!("<!doctype html><title>t</title><h1>Head</h1>{body}")
}

fn records(count: u32) -> String {
    (0..count)
        .map(|at| format!("{{\"id\": {at}, \"name\": \"name of {at}\", \"place\": {{\"city\": \"Oslo\"}}}}\n"))
        .collect()
}

fn rtf(paragraphs: u32) -> String {
    let body: String = (0..paragraphs).map(|at| format!("{}\\par\n", lines(at, 2))).collect();
    format!("{{\\rtf1\\ansi {body}}}")
}

/// User and system time, in seconds: of this process, and of the children that have ended.
#[cfg(target_os = "linux")]
fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process");
    let fields: Vec<f64> =
        stat.rsplit(") ").next().expect("fields").split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
    // Ticks are a hundredth of a second on every Linux.
    ((fields[11] + fields[12]) / 100.0, (fields[13] + fields[14]) / 100.0)
}

#[cfg(not(target_os = "linux"))]
fn cpu() -> (f64, f64) {
    (f64::NAN, f64::NAN)
}

/// The baseline: the text of all pages by the PDF library alone, without any structure of ours.
fn plain(book: &[u8]) {
    let (wall, before) = (Instant::now(), cpu().0);
    for _ in 0..ROUNDS {
        let document = pdf_oxide::PdfDocument::from_bytes(book.to_vec()).expect("a PDF");
        let bytes: usize = (0..PAGES as usize).map(|page| document.extract_text(page).expect("a page").len()).sum();
        assert!(bytes > 10_000);
    }
    tell("pdf, plain text by the library", PAGES, "pages", cpu().0 - before, wall.elapsed().as_secs_f64());
}

async fn measure(world: &World, name: &str, filename: &str, bytes: Vec<u8>, count: u32, unit: &str) {
    let (wall, before) = (Instant::now(), cpu());
    for _ in 0..ROUNDS {
        let (found, text) = world.extract(filename, bytes.clone()).await.expect(name);
        assert!(found.words > 1000 && !text.blocks.is_empty());
    }
    // The formats that are trusted are read in this process.
    let after = cpu();
    let used = after.1 - before.1 + if after.1 - before.1 < 0.01 { after.0 - before.0 } else { 0.0 };
    tell(&format!("{name}, with structure"), count, unit, used, wall.elapsed().as_secs_f64());
}

fn tell(name: &str, count: u32, unit: &str, cpu: f64, wall: f64) {
    let total = f64::from(count * ROUNDS);
    let figure = serde_json::json!({
        "bench": "extract", "case": name, "unit": unit, "count": total, "cpu_seconds": cpu, "wall_seconds": wall,
        "per_cpu_second": total / cpu, "per_second": total / wall,
    });
    writeln!(std::io::stdout(), "{figure}").expect("standard output");
    eprintln!("{name:<36} {:>10.0} {unit}/CPU-s {:>10.0} {unit}/s", total / cpu, total / wall);
}
