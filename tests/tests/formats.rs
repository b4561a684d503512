//! One real file of every format, made by other programs than ours, uploaded as a user would: what it is, its text, pages,
//! headings, tables and what it says of itself.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{Client, Server};

/// What a file becomes. Empty lists and `None` ask nothing.
#[derive(Debug, Default)]
struct Expected {
    file: &'static str,
    format: &'static str,
    title: Option<&'static str>,
    authors: &'static [&'static str],
    tags: &'static [&'static str],
    written: Option<&'static str>,
    language: Option<&'static str>,
    pages: Option<u64>,
    /// A question, and what the passage that is found has: text, section, page.
    passages: &'static [Passage],
    /// Part of a warning.
    warning: Option<&'static str>,
}

/// Words to search for; a part of the passage found; the end of its section path; its page.
type Passage = (&'static str, &'static str, Option<&'static str>, Option<u64>);

const TIMES: &str = "| Tea | Degrees | Minutes |\n| Green | 75 | 2 |\n| Black | 95 | 4 |";
const AUTHORS: &[&str] = &["Ada Brewer", "Bo Leaf"];
const ADA: &[&str] = &["Ada Brewer"];

/// What pandoc makes of one source, whatever the format.
const BOOK: Expected = Expected {
    file: "",
    format: "",
    title: Some("The book of tea"),
    authors: AUTHORS,
    tags: &["tea", "brewing"],
    written: None,
    language: Some("en"),
    pages: None,
    passages: &[
        ("evergreen shrub", "native to East Asia", Some("Leaves"), None),
        ("Degrees Minutes", TIMES, Some("Brewing"), None),
        ("longer for black tea", "- Longer for black tea.", Some("Brewing"), None),
        ("def brew leaves", "def brew(leaves):\n    return \"tea\"", Some("Brewing"), None),
        ("gaiwan lidded bowl", "A gaiwan is a lidded bowl.", Some("Cups"), None),
    ],
    warning: None,
};

const FILES: &[Expected] = &[
    Expected { file: "front-matter.md", format: "markdown", written: Some("2024-05-01"), ..BOOK },
    Expected { file: "pandoc.docx", format: "docx", ..BOOK },
    Expected { file: "pandoc.odt", format: "odt", ..BOOK },
    Expected { file: "pandoc.epub", format: "epub", tags: &[], written: Some("2024-05-01"), ..BOOK },
    Expected { file: "pandoc.html", format: "html", written: Some("2024-05-01"), ..BOOK },
    Expected { file: "pandoc.rtf", format: "rtf", title: None, authors: &[], tags: &[], ..BOOK },
    Expected {
        file: "pandoc.pptx",
        format: "pptx",
        pages: Some(5),
        passages: &[("gaiwan", "A gaiwan is a lidded bowl.", Some("Cups"), Some(4))],
        ..BOOK
    },
    Expected {
        file: "groff.pdf",
        format: "pdf",
        title: Some("The groff book of tea"),
        language: Some("en"),
        pages: Some(2),
        passages: &[
            ("Degrees Minutes", TIMES, Some("2. Brewing"), Some(1)),
            ("gaiwan", "A gaiwan is a lidded bowl.", Some("3. Cups"), Some(2)),
        ],
        ..NOTHING
    },
    Expected { file: "really-a-pdf.txt", format: "pdf", pages: Some(2), ..NOTHING },
    Expected {
        file: "reportlab.pdf",
        format: "pdf",
        title: Some("Tea, printed"),
        authors: ADA,
        tags: &["tea", "print"],
        written: Some("2000-01-01T00:00:00+00:00"),
        language: Some("en"),
        pages: Some(2),
        passages: &[
            ("Degrees Minutes oolong", TIMES, Some("Times"), Some(1)),
            (
                "bitter leaves",
                "| Green | Water of 75 degrees, never hotter, since the leaves turn bitter |",
                Some("Heat"),
                Some(2),
            ),
        ],
        ..NOTHING
    },
    Expected {
        file: "python-docx.docx",
        format: "docx",
        title: Some("Tea in Word"),
        authors: ADA,
        tags: &["tea", "word"],
        written: Some("2024-05-01T10:30:00Z"),
        language: Some("en"),
        passages: &[
            ("Degrees Minutes", TIMES, Some("Leaves > Brewing"), None),
            ("boil the water", "1. Boil the water.", Some("Leaves > Brewing"), None),
        ],
        ..NOTHING
    },
    Expected {
        file: "python-pptx.pptx",
        format: "pptx",
        title: Some("Tea in slides"),
        authors: ADA,
        pages: Some(3),
        passages: &[
            ("oolong between", "Say that oolong lies between the two.", Some("Leaves > Notes"), Some(1)),
            ("Degrees Minutes", TIMES, Some("Times"), Some(2)),
            ("slide without title", "A slide without a title.", Some("Slide 3"), Some(3)),
        ],
        ..NOTHING
    },
    Expected {
        file: "openpyxl.xlsx",
        format: "xlsx",
        title: Some("Tea in sheets"),
        authors: ADA,
        tags: &["tea", "sheets"],
        written: Some("2024-05-01T10:30:00Z"),
        pages: Some(2),
        passages: &[
            ("Degrees Minutes", TIMES, Some("Times"), Some(1)),
            ("gaiwan price", "| Cup | Made | Price |\n| Gaiwan | 2024-05-01 | 12.5 |", Some("Cups"), Some(2)),
        ],
        ..NOTHING
    },
    Expected {
        file: "odfpy.odt",
        format: "odt",
        title: Some("Tee als Text"),
        authors: ADA,
        tags: &["tea"],
        written: Some("2024-05-01"),
        language: Some("de"),
        passages: &[
            ("Wasser kochen", "- Wasser kochen", Some("Blätter"), None),
            ("Degrees", TIMES, Some("Blätter"), None),
        ],
        ..NOTHING
    },
    Expected {
        file: "odfpy.ods",
        format: "ods",
        title: Some("Tea in cells"),
        pages: Some(2),
        passages: &[("Degrees", TIMES, Some("Times"), Some(1)), ("gaiwan", "| Gaiwan | 12.5 |", Some("Cups"), Some(2))],
        ..NOTHING
    },
    Expected {
        file: "odfpy.odp",
        format: "odp",
        title: Some("Tea in frames"),
        pages: Some(2),
        passages: &[
            ("oxidised", "Green is not oxidised", Some("Leaves"), Some(1)),
            ("say why", "Say why.", Some("Leaves > Notes"), Some(1)),
            ("slide without title", "A slide without a title", Some("Slide 2"), Some(2)),
        ],
        ..NOTHING
    },
    Expected {
        file: "ebooklib.epub",
        format: "epub",
        title: Some("Tea to go"),
        authors: ADA,
        tags: &["tea"],
        written: Some("2024-05-01"),
        language: Some("en"),
        passages: &[("gaiwan", "A gaiwan is a lidded bowl.", Some("Cups"), None)],
        ..NOTHING
    },
    Expected { file: "table.csv", format: "csv", passages: &[("Degrees", TIMES, None, None)], ..NOTHING },
    Expected {
        file: "table-excel.csv",
        format: "csv",
        passages: &[("Grün", "| Grün | 70 | 1 |", None, None)],
        ..NOTHING
    },
    Expected {
        file: "data.json",
        format: "json",
        title: Some("Tea as data"),
        passages: &[
            ("Oolong", "Tea: Oolong; Degrees: 90; Minutes: 3", Some("teas"), None),
            ("gaiwan lid", "- gaiwan.lid: true", Some("cups"), None),
        ],
        ..NOTHING
    },
    Expected {
        file: "records.jsonl",
        format: "jsonl",
        passages: &[("Oolong", "Tea: Oolong; Degrees: 90; Minutes: 3", None, None)],
        ..NOTHING
    },
    Expected {
        file: "python.eml",
        format: "eml",
        title: Some("Tee für zwei"),
        authors: ADA,
        written: Some("2024-05-01T10:30:00Z"),
        language: Some("en"),
        passages: &[
            ("do you like", "> Do you like oolong?", Some("Tee für zwei"), None),
            ("gaiwan price", "| Gaiwan | 2024-05-01 | 12.5 |", Some("openpyxl.xlsx > Cups"), Some(2)),
            ("bitter", "since the leaves turn bitter", Some("reportlab.pdf > Heat"), Some(2)),
        ],
        warning: Some("1 files in it are no text (1 png)"),
        ..NOTHING
    },
    Expected {
        file: "latin1.txt",
        format: "text",
        language: Some("de"),
        passages: &[("Größe", "Über Größe und Maß.", None, None)],
        warning: Some("windows-1252"),
        ..NOTHING
    },
    Expected {
        file: "utf16.txt",
        format: "text",
        language: Some("de"),
        passages: &[("Strauchs", "heißes Wasser über", None, None)],
        ..NOTHING
    },
    Expected {
        file: "brew",
        format: "code",
        language: Some("python"),
        passages: &[("pours water", "def brew(leaves):\n    \"\"\"Pours water over the leaves.\"\"\"", None, None)],
        ..NOTHING
    },
    Expected { file: "brew.rs", format: "code", language: Some("rust"), ..NOTHING },
    Expected {
        file: "python.zip",
        format: "zip",
        passages: &[
            ("Degrees oolong", TIMES, None, None),
            ("gaiwan lidded", "A gaiwan is a lidded bowl.", None, None),
            ("pours water", "/// Pours water over the leaves.", Some("inner.zip > src/brew.rs"), None),
        ],
        warning: Some("1 files in it are no text (1 png)"),
        ..NOTHING
    },
    Expected {
        file: "gnu.tar.gz",
        format: "tar",
        passages: &[
            ("pours water", "/// Pours water over the leaves.", Some("brew.rs"), None),
            ("gaiwan price", "| Gaiwan | 2024-05-01 | 12.5 |", Some("openpyxl.xlsx > Cups"), Some(2)),
        ],
        ..NOTHING
    },
];

const NOTHING: Expected = Expected {
    file: "",
    format: "",
    title: None,
    authors: &[],
    tags: &[],
    written: None,
    language: None,
    pages: None,
    passages: &[],
    warning: None,
};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn a_file_of_every_format_is_read_with_its_structure() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data")).await;
    let admin = server.admin().await;
    for expected in FILES {
        let reply = admin.upload(expected.file, fixture(expected.file), None).await.expect("an answer");
        assert_eq!(
            (reply.status, &reply.body["status"]),
            (200, &json!("success")),
            "{}: {}",
            expected.file,
            reply.body
        );
        let id = reply.body["document_id"].as_str().expect("an id").to_owned();
        check_facts(&admin, &id, expected).await;
        for passage in expected.passages {
            check_passage(&admin, &id, expected, passage).await;
        }
    }
}

/// What the document's history says was extracted.
async fn check_facts(admin: &Client, id: &str, expected: &Expected) {
    let file = expected.file;
    let history = admin.get(&format!("/admin/events?stream=document/{id}")).await.expect("an answer").body;
    let history = match history {
        Value::String(lines) => lines,
        one => one.to_string(),
    };
    let records = history.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let events = records.flat_map(|record| record["events"].as_array().cloned().unwrap_or_default());
    let found =
        events.into_iter().find(|event| event["type"] == "Extracted").expect("it was extracted")["data"].clone();
    assert_eq!(found["format"], expected.format, "{file}");
    if expected.title.is_some() {
        assert_eq!(found["title"].as_str(), expected.title, "{file}");
    }
    assert_eq!(found["pages"].as_u64(), expected.pages, "{file}");
    if expected.language.is_some() {
        assert_eq!(found["language"].as_str(), expected.language, "{file}");
    }
    if expected.written.is_some() {
        assert_eq!(found["written"].as_str(), expected.written, "{file}");
    }
    for (name, wanted) in [("authors", expected.authors), ("tags", expected.tags)] {
        if !wanted.is_empty() {
            assert_eq!(found[name], json!(wanted), "{file}: {name}");
        }
    }
    let warnings = found["warnings"].to_string();
    match expected.warning {
        Some(part) => assert!(warnings.contains(part), "{file}: {warnings}"),
        None => assert_eq!(warnings, "[]", "{file}"),
    }
}

/// Some passage of this document that is found has the text, and stands where it should.
async fn check_passage(admin: &Client, id: &str, expected: &Expected, (query, text, section, page): &Passage) {
    let file = expected.file;
    let filters = json!({ "document_id": id, "file_type": expected.format });
    let body = json!({ "query": query, "max_results": 20, "filters": filters });
    let found = admin.post("/api/v1/documents/search", &body, None).await.expect("an answer").body;
    assert!(!found["notices"].to_string().contains("there is no file type"), "{file}: {}", found["notices"]);
    let results = found["results"].as_array().cloned().unwrap_or_default();
    let hit = results.iter().find(|hit| hit["content"].as_str().is_some_and(|content| content.contains(text)));
    let Some(hit) = hit else { panic!("{file}: {query:?} does not find {text:?}: {found:#}") };
    let path = hit["metadata"]["section"].as_str().unwrap_or_default();
    let in_section = section.is_none_or(|section| path.ends_with(section));
    if let Some(section) = section.filter(|_| !in_section) {
        // Short sections share a passage, which is then named by the first: the heading stands before the text.
        let content = hit["content"].as_str().unwrap_or_default();
        let heading = section.rsplit(" > ").next().unwrap_or(section);
        let before = content.split(text).next().unwrap_or_default();
        assert!(before.contains(heading), "{file}: {text:?} stands in {path:?}, not in {section:?}: {content:?}");
    }
    if let Some(page) = page {
        let begins = hit["metadata"]["page_number"].as_u64();
        let fits = if in_section { begins == Some(*page) } else { begins.is_some_and(|begins| begins <= *page) };
        assert!(fits, "{file}: {text:?} stands on {begins:?}, not on {page}");
    }
}
