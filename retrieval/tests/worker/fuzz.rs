//! A mutation fuzzer for every parser that reads what people send: real files are damaged at random and taken in by the real
//! pipeline with its real worker process. Each must end with text or with a lasting reason; this process must live, and keep
//! little in memory. What a run did can be done again by its seed.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use lmao_ports::ChunkRecord;

use crate::support::World;

/// No file takes longer: the worker's own limit and a little.
const PATIENCE: Duration = Duration::from_secs(240);
/// What this process may have in memory at most, in KiB.
const MEMORY_KIB: u64 = 1024 * 1024;
/// Bytes that a mutated file may grow to.
const MAX_BYTES: usize = 1 << 20;

/// What to fuzz, and how long.
#[derive(Debug)]
pub(crate) struct Options {
    seconds: u64,
    target: Option<String>,
    seed: u64,
}

impl Default for Options {
    #[expect(clippy::disallowed_methods, reason = "each run has another seed, and prints it")]
    fn default() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        Self { seconds: 2, target: None, seed: now.as_secs() * 1000 }
    }
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Self {
        let mut options = Self::default();
        for pair in arguments.chunks(2) {
            let value = pair.get(1).expect("each option has a value");
            match pair[0].as_str() {
                "--seconds" => options.seconds = value.parse().expect("seconds"),
                "--target" => options.target = Some(value.clone()),
                "--seed" => options.seed = value.parse().expect("a seed"),
                other => panic!("{other} is no option; there are --seconds, --target and --seed"),
            }
        }
        options
    }
}

/// A parser with the files to begin with, and words that its formats know.
struct Target {
    name: &'static str,
    files: &'static [&'static str],
    words: &'static [&'static [u8]],
}

const XML: &[&[u8]] = &[
    b"<!DOCTYPE a [<!ENTITY b \"&b;&b;\">]>",
    b"]]>",
    b"<![CDATA[",
    b"&#x0;",
    b"&#99999999999;",
    b"<a>",
    b"</w:p>",
    b"<w:tbl>",
    b"<table:table-row table:number-rows-repeated=\"99999999\">",
    b"r=\"XFD1048576\"",
    b"<!--",
    b"xmlns:x=\"",
    b"/>",
];
const PDF: &[&[u8]] = &[
    b"/Kids[1 0 R]",
    b"/Length 999999999",
    b"/Prev 0",
    b"stream\n",
    b"endstream",
    b"endobj",
    b"[[[[[[[[",
    b"<<<<",
    b"/Filter/FlateDecode",
    b"/Type/ObjStm",
    b"/Parent 1 0 R",
    b" Tj",
    b" cm",
    b"-1 0 R",
    b"/W[1 9 1]",
    b"/Predictor 15",
    b"ID ",
    b"BI ",
];
const RTF: &[&[u8]] = &[
    b"{\\*",
    b"\\bin99999999 ",
    b"\\u-10179?",
    b"\\uc99999",
    b"\\'",
    b"{\\fonttbl{\\f0\\fcharset128",
    b"\\row",
    b"\\trowd",
    b"\\cell",
    b"{\\info{\\title ",
    b"{\\footnote",
    b"\\s2147483648",
    b"{{{{{{{{",
    b"}}}}",
];
const MAIL: &[&[u8]] = &[
    b"Content-Type: multipart/mixed; boundary=\"",
    b"\r\n--",
    b"--\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"=?utf-8?q?=",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"filename*0*=utf-8''%",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"\r\n\r\n",
];
const HTML: &[&[u8]] = &[
    b"<table><tr><td>",
    b"<div><div><div>",
    b"</b></i>",
    b"<svg><math>",
    b"<template>",
    b"<plaintext>",
    b"<select><optgroup>",
    b"<!--",
];
const TEXT: &[&[u8]] =
    &[b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b$B", b"```", b"| a |", b"\"\"", b"{\"a\":[", b"---\n", b"\n\n# ", b"\\u0000"];
const ZIP: &[&[u8]] = &[b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"\xff\xff\xff\xff", b"../", b"ustar"];

const CODE: &[&[u8]] = &[
    b"((((((((",
    b"{{{{{{{{",
    b"<<<<<<<<",
    b"`${`${",
    b"\"\"\"",
    b"<<~A\n",
    b"R\"(",
    b"/*",
    b"//",
    b"#if 1\n",
    b"=begin\n",
    b"$\"{",
    b"f'{",
    b"a<b<c>>",
    b"\n\t \t",
    b"%w[",
    b"?.",
    b"r#\"",
];

const TARGETS: &[Target] = &[
    Target { name: "pdf", files: &["groff.pdf", "reportlab.pdf"], words: PDF },
    Target { name: "docx", files: &["pandoc.docx", "python-docx.docx"], words: XML },
    Target { name: "pptx", files: &["pandoc.pptx", "python-pptx.pptx"], words: XML },
    Target { name: "xlsx", files: &["openpyxl.xlsx"], words: XML },
    Target { name: "odf", files: &["pandoc.odt", "odfpy.odt", "odfpy.ods", "odfpy.odp"], words: XML },
    Target { name: "epub", files: &["pandoc.epub", "ebooklib.epub"], words: XML },
    Target { name: "rtf", files: &["pandoc.rtf"], words: RTF },
    Target { name: "html", files: &["pandoc.html"], words: HTML },
    Target { name: "eml", files: &["python.eml"], words: MAIL },
    Target { name: "archive", files: &["python.zip", "gnu.tar.gz"], words: ZIP },
    Target { name: "csv", files: &["table.csv", "table-excel.csv"], words: TEXT },
    Target { name: "json", files: &["data.json", "records.jsonl"], words: TEXT },
    Target { name: "markdown", files: &["front-matter.md"], words: TEXT },
    Target {
        name: "code",
        files: &[
            "kettle.c",
            "kettle.cpp",
            "Kettle.cs",
            "kettle.go",
            "Kettle.java",
            "kettle.jsx",
            "kettle.py",
            "kettle.rb",
            "kettle.ts",
            "brew.rs",
        ],
        words: CODE,
    },
    Target { name: "text", files: &["latin1.txt", "utf16.txt", "brew", "brew.rs"], words: TEXT },
];

/// Fuzzes each target for so long.
pub(crate) async fn run(world: &World, options: &Options) {
    // The children say at length what they gave up on.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let chosen = |target: &&Target| options.target.as_deref().is_none_or(|name| name == target.name);
    let mut any = false;
    for target in TARGETS.iter().filter(chosen) {
        any = true;
        fuzz(world, target, options).await;
    }
    assert!(
        any,
        "there is no such target; there are {:?}",
        TARGETS.iter().map(|target| target.name).collect::<Vec<_>>()
    );
    let most = memory_kib();
    assert!(most < MEMORY_KIB, "this process took {} MiB", most / 1024);
    println!("fuzz: this process took {} MiB at most", most / 1024);
}

async fn fuzz(world: &World, target: &Target, options: &Options) {
    let seeds: Vec<(&str, Vec<u8>)> = target.files.iter().map(|name| (*name, fixture(name))).collect();
    let begun = Instant::now();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let (mut runs, mut slowest) = (0, Duration::ZERO);
    while begun.elapsed().as_secs() < options.seconds {
        let seed = options.seed + runs;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (name, bytes) = &seeds[random.below(seeds.len())];
        let other = &seeds[random.below(seeds.len())].1;
        let bytes = mutate(bytes, other, target.words, &mut random);
        let started = Instant::now();
        let ended = tokio::time::timeout(PATIENCE, world.passages(name, bytes.clone())).await;
        slowest = slowest.max(started.elapsed());
        let outcome = match ended {
            Ok(Ok((text, passages))) => {
                if let Some(fault) = wrong_place(&text.text, &passages) {
                    report(target, seed, &bytes, &fault);
                }
                "text".to_owned()
            }
            Ok(Err(failure)) => {
                let fault = failure.retryable || failure.message.is_empty() || failure.reason == "internal_error";
                if fault {
                    report(target, seed, &bytes, &format!("{failure:?}"));
                }
                failure.reason
            }
            Err(_) => report(target, seed, &bytes, "it did not end"),
        };
        *outcomes.entry(outcome).or_default() += 1;
        runs += 1;
    }
    println!(
        "fuzz {:<9} seed {}: {runs} files, slowest {:.1} s, {outcomes:?}",
        target.name,
        options.seed,
        slowest.as_secs_f32()
    );
}

fn report(target: &Target, seed: u64, bytes: &[u8], what: &str) -> ! {
    let path = std::env::temp_dir().join(format!("lmao-fuzz-{}-{seed}", target.name));
    std::fs::write(&path, bytes).expect("room on the disk");
    panic!("target {}, seed {seed}: {what}; the file is {}", target.name, path.display());
}

/// What is said of a passage and is not so: passages are pieces of the text, in order.
fn wrong_place(text: &str, passages: &[ChunkRecord]) -> Option<String> {
    let mut ordinals = 0..;
    let mut before = 0;
    for passage in passages {
        let at = |place: u64| usize::try_from(place).expect("64 bits");
        let range = at(passage.start)..at(passage.end);
        if text.get(range) != Some(&passage.content) {
            return Some(format!("a passage is not where it says: {passage:?}"));
        }
        if passage.start < before || Some(passage.ordinal) != ordinals.next() || passage.content.is_empty() {
            return Some(format!("a passage is out of order: {passage:?}"));
        }
        if passage.parent.is_some_and(|parent| !(parent.first..=parent.last).contains(&passage.ordinal)) {
            return Some(format!("a passage is not in its section: {passage:?}"));
        }
        before = passage.start;
    }
    None
}

fn fixture(name: &str) -> Vec<u8> {
    let folder =
        if name.to_lowercase().starts_with("kettle") { "tests/fixtures/programs" } else { "../tests/fixtures/formats" };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The most that this process had in memory.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}

/// Damages a file: its bytes as they are, or, every other time where it is packed, those of what is in it.
fn mutate(bytes: &[u8], other: &[u8], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    if random.below(2) == 0 {
        if let Some(packed) = mutate_inside(bytes, words, random) {
            return packed;
        }
        if bytes.starts_with(b"\x1f\x8b") {
            let mut plain = vec![];
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).expect("a fixture");
            return damage(plain, other, words, random);
        }
    }
    damage(bytes.to_vec(), other, words, random)
}

/// A ZIP with one of its parts damaged.
fn mutate_inside(bytes: &[u8], words: &[&[u8]], random: &mut Random) -> Option<Vec<u8>> {
    let mut from = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let chosen = random.below(from.len());
    let mut to = zip::ZipWriter::new(Cursor::new(vec![]));
    for index in 0..from.len() {
        let mut part = from.by_index(index).ok()?;
        let name = part.name().ok()?.into_owned();
        let mut content = vec![];
        part.read_to_end(&mut content).ok()?;
        if index == chosen {
            content = damage(content, bytes, words, random);
        }
        to.start_file(name, zip::write::SimpleFileOptions::default()).ok()?;
        to.write_all(&content).ok()?;
    }
    Some(to.finish().ok()?.into_inner())
}

fn damage(mut bytes: Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(8) {
        if bytes.is_empty() {
            bytes.push(b' ');
        }
        let at = random.below(bytes.len());
        let length = random.below(64.min(bytes.len() - at) + 1);
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 0x7f, 0x80, 0xff, b'<', b'{'][random.below(6)],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].repeat(1 + random.below(100));
                bytes.splice(at..at, piece);
            }
            4 => drop(bytes.splice(at..at, words[random.below(words.len())].repeat(1 + random.below(4)))),
            5 if random.below(4) == 0 => bytes.truncate(at),
            6 => {
                let from = random.below(other.len());
                let piece = &other[from..from + random.below(512.min(other.len() - from) + 1)];
                bytes.splice(at..at + length, piece.iter().copied());
            }
            7 => {
                // A number that is far off.
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    let number: &[u8] =
                        [&b"99999999999999999999"[..], b"-1", b"0", b"65536", b"4294967295"][random.below(5)];
                    bytes.splice(at + digit..=at + digit, number.iter().copied());
                }
            }
            _ => {
                let byte = bytes[at];
                bytes[at..at + length].fill(byte);
            }
        }
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

/// A xorshift generator: the same seed gives the same file.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("48 bits") % end.max(1)
    }
}
