//! A folder of large files that hold little text: PDFs with pictures, archives and office documents with films in them, and
//! files that nobody can read. How much memory does it take to have it all taken in?
//!
//! Memory is that of the server with its extraction processes, and of `lmao ingest` beside it, sampled while it runs. Prints a
//! table and JSON. `LMAO_BENCH_MB` shrinks it from 2000; `LMAO_BENCH_MODELS=auto` embeds as well, which takes long.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Server, lmao, round, size};
use rand::{Rng as _, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const MB: usize = 1_000_000;
/// The most that all processes together may hold.
const LIMIT: u64 = 1_000_000_000;
const SAMPLE: Duration = Duration::from_millis(50);
/// Of each kind: how many parts of a hundred of all bytes, megabytes of a file, and kilobytes of text in it.
const KINDS: [(&str, usize, usize, usize); 5] = [
    ("pdf", 40, 10, 100),
    ("zip", 20, 20, 200),
    ("docx", 20, 10, 100),
    // Nothing in them is text: the walk leaves films out, and an unknown format is refused by the server.
    ("mp4", 10, 50, 0),
    ("txt", 10, 50, 0),
];

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (data, files) = (folder.path().join("data"), folder.path().join("files"));
    fs::create_dir(&files).unwrap();
    let written = fill(&files, size("LMAO_BENCH_MB", 2000));
    let models = std::env::var("LMAO_BENCH_MODELS").unwrap_or_else(|_| "off".to_owned());
    let mut command = lmao(&data);
    command.args(["--set", &format!("models={models}")]);
    if let Some(cache) = std::env::var_os("LMAO_MODEL_CACHE") {
        command.env("LMAO_MODEL_CACHE", cache);
    }
    let server = Server::run(command, None);

    let begun = Instant::now();
    let mut client = lmao(&data);
    client.args(["ingest", "--max-files", "100000"]).arg(&files).stdout(Stdio::piped()).stderr(Stdio::null());
    let client = client.spawn().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let (ended, roots) = (Arc::clone(&ended), [server.pid(), client.id()]);
        move || peaks(roots, &ended)
    });
    let output = client.wait_with_output().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    let [all, of_server, of_client] = sampler.join().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for failed in summary["failed"].as_array().unwrap() {
        *failures.entry(failed["reason"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let left_out: usize =
        summary["left_out"].as_object().unwrap().values().map(|all| all.as_array().unwrap().len()).sum();
    let cpu = server.cpu().as_secs_f64();
    server.stop();

    let megabytes = |bytes: u64| round(bytes as f64 / MB as f64);
    println!("{} files, {} MB, {} MB of it text", written.files, written.bytes / MB, written.text / MB);
    println!("{} ready, {left_out} left out, not taken: {failures:?}, in {seconds:.1} s", summary["ready"]);
    println!(
        "resident at most: {} MB in all, {} MB the server with its workers, {} MB the client; limit {} MB",
        megabytes(all),
        megabytes(of_server),
        megabytes(of_client),
        megabytes(LIMIT)
    );
    println!(
        "{}",
        json!({
            "bench": "ingest_folder", "files": written.files, "bytes": written.bytes, "text_bytes": written.text,
            "ready": summary["ready"], "left_out": left_out, "failed": failures, "seconds": round(seconds),
            "server_cpu_seconds": round(cpu), "peak_resident_bytes": all, "peak_server_bytes": of_server,
            "peak_client_bytes": of_client, "within_limit": all < LIMIT,
        })
    );
}

/// What lies in the folder.
#[derive(Default)]
struct Written {
    files: usize,
    bytes: usize,
    text: usize,
}

fn fill(folder: &Path, megabytes: usize) -> Written {
    let mut random = SmallRng::seed_from_u64(7);
    let mut written = Written::default();
    for (kind, share, large, text) in KINDS {
        for n in 0..(megabytes * share / 100 / large).max(1) {
            let words = text_of(&format!("{kind} {n}"), text * 1000);
            let path = folder.join(format!("{kind}-{n}.{kind}"));
            let mut file = BufWriter::new(File::create(&path).unwrap());
            let mut ballast = Ballast { random: &mut random, left: large * MB };
            match kind {
                "pdf" => pdf(&mut file, &words, &mut ballast),
                "zip" => archive(&mut file, "notes.md", &words, "film.mp4", &mut ballast),
                "docx" => archive(&mut file, "word/document.xml", &docx(&words), "word/media/image1.png", &mut ballast),
                _ => ballast.pour(&mut file),
            }
            file.flush().unwrap();
            written.files += 1;
            written.bytes += usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
            written.text += words.len();
        }
    }
    written
}

/// Lines of words that differ from file to file.
fn text_of(name: &str, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    for n in 0_usize.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&format!("In {name}, lamp {n} is lit at dusk and seen from {} miles away.\n", n * 7 % 40));
    }
    text
}

/// Bytes that no compression makes fewer.
struct Ballast<'a> {
    random: &'a mut SmallRng,
    left: usize,
}

impl Ballast<'_> {
    fn pour(&mut self, into: &mut impl Write) {
        let mut piece = vec![0; 64 * 1024];
        while self.left > 0 {
            self.random.fill_bytes(&mut piece);
            let count = piece.len().min(self.left);
            into.write_all(&piece[..count]).unwrap();
            self.left -= count;
        }
    }
}

/// A PDF (ISO 32000-1) of 50 lines on each page, and a picture on the first.
fn pdf(file: &mut impl Write, text: &str, picture: &mut Ballast<'_>) {
    let lines: Vec<&str> = text.lines().collect();
    let pages: Vec<&[&str]> = lines.chunks(50).collect();
    let mut at = vec![];
    let mut length = 0;
    let mut put = |file: &mut dyn Write, bytes: &[u8], begins: bool| {
        if begins {
            at.push(length);
        }
        file.write_all(bytes).unwrap();
        length += bytes.len();
    };
    put(file, b"%PDF-1.4\n", false);
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 5 + 2 * page)).collect();
    put(file, b"1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n", true);
    let kids = format!("2 0 obj\n<< /Type /Pages /Kids [{}] /Count {} >>\nendobj\n", kids.join(" "), pages.len());
    put(file, kids.as_bytes(), true);
    put(file, b"3 0 obj\n<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>\nendobj\n", true);
    let (width, bytes) = (1000, picture.left);
    let head = format!(
        "4 0 obj\n<< /Type /XObject /Subtype /Image /Width {width} /Height {} /ColorSpace /DeviceGray \
         /BitsPerComponent 8 /Length {bytes} >>\nstream\n",
        bytes / width
    );
    put(file, head.as_bytes(), true);
    picture.pour(&mut &mut *file);
    put(file, b"\nendstream\nendobj\n", false);
    let behind = bytes;
    for (n, page) in pages.iter().enumerate() {
        let (page_id, content_id) = (5 + 2 * n, 6 + 2 * n);
        let drawn: Vec<String> = page.iter().map(|line| format!("({line}) Tj T*")).collect();
        let image = if n == 0 { "q 100 0 0 100 72 20 cm /I Do Q" } else { "" };
        let drawn = format!("BT /F1 10 Tf 12 TL 72 720 Td {} ET {image}", drawn.join(" "));
        let page = format!(
            "{page_id} 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> \
             /XObject << /I 4 0 R >> >> /Contents {content_id} 0 R >>\nendobj\n"
        );
        put(file, page.as_bytes(), true);
        let content =
            format!("{content_id} 0 obj\n<< /Length {} >>\nstream\n{drawn}\nendstream\nendobj\n", drawn.len());
        put(file, content.as_bytes(), true);
    }
    // Everything from the second object behind the picture on lies that much further.
    let entry = |(n, at): (usize, &usize)| format!("{:010} 00000 n \n", if n > 3 { at + behind } else { *at });
    let table: String = at.iter().enumerate().map(entry).collect();
    let (objects, start) = (at.len() + 1, length + behind);
    write!(
        file,
        "xref\n0 {objects}\n0000000000 65535 f \n{table}trailer\n<< /Size {objects} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    )
    .unwrap();
}

/// A ZIP of a text, compressed, and of something stored as it is.
fn archive(file: &mut BufWriter<File>, name: &str, text: &str, stored: &str, ballast: &mut Ballast<'_>) {
    let mut zip = ZipWriter::new(file);
    if name.starts_with("word/") {
        let options = SimpleFileOptions::default();
        for (part, content) in [("[Content_Types].xml", CONTENT_TYPES), ("_rels/.rels", RELATIONS)] {
            zip.start_file(part, options).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
    }
    zip.start_file(name, SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)).unwrap();
    zip.write_all(text.as_bytes()).unwrap();
    zip.start_file(stored, SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
    ballast.pour(&mut zip);
    zip.finish().unwrap();
}

const CONTENT_TYPES: &str = r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="png" ContentType="image/png"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"#;
const RELATIONS: &str = r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>"#;

/// The main part of a WordprocessingML document (ECMA-376).
fn docx(text: &str) -> String {
    let paragraphs: String = text.lines().map(|line| format!("<w:p><w:r><w:t>{line}</w:t></w:r></w:p>")).collect();
    format!(
        r#"<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{paragraphs}</w:body></w:document>"#
    )
}

/// The most bytes that were resident at once: of both processes with their children, and of each.
fn peaks(roots: [u32; 2], ended: &AtomicBool) -> [u64; 3] {
    let mut peaks = [0; 3];
    while !ended.load(Ordering::Relaxed) {
        let [server, client] = roots.map(resident_of_tree);
        for (peak, now) in peaks.iter_mut().zip([server + client, server, client]) {
            *peak = now.max(*peak);
        }
        #[expect(clippy::disallowed_methods, reason = "this thread does nothing else")]
        std::thread::sleep(SAMPLE);
    }
    peaks
}

/// Resident bytes of a process and of its children; nothing of those that are gone.
fn resident_of_tree(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children =
        children.flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>());
    kilobytes.unwrap_or_default() * 1024 + children.map(resident_of_tree).sum::<u64>()
}
