use super::*;

fn what(bytes: &[u8], filename: &str) -> String {
    match detect(bytes, filename) {
        Ok(format) => format.name().to_owned(),
        Err(failure) => format!("{}: {}", failure.reason, failure.message),
    }
}

#[test]
fn content_decides_and_the_name_tells_texts_apart() {
    let utf16: Vec<u8> = "plain words in a row".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let html16: Vec<u8> = "<!DOCTYPE html><p>hello".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let cases: [(&[u8], &str, &str); 20] = [
        (b"%PDF-1.7\n...", "a.txt", "pdf"),
        (b"garbage before\n%PDF-1.4", "a.pdf", "pdf"),
        (b"just words", "a.pdf", "text"),
        (b"<!DOCTYPE html><p>x", "a.txt", "html"),
        (b"\xef\xbb\xbf <!-- c --><html lang=en>", "a", "html"),
        (b"<?xml version=\"1.0\"?>\n<html xmlns=\"x\">", "a.xml", "html"),
        (b"<p>fragment", "a.html", "html"),
        (b"<p align=center>logo</p>\n\n# T", "README.md", "markdown"),
        (b"# T", "a.MD", "markdown"),
        (b"fn main() {}", "main.rs", "code"),
        (b"#!/usr/bin/env python3\nprint(1)", "tool", "code"),
        (b"all:\n\tcc x.c", "Makefile", "code"),
        (b"BM25 is a ranking function", "a.txt", "text"),
        (b"\x1b[1mbold\x1b[0m words and more words of ordinary text", "log", "text"),
        ("Größe".as_bytes(), "a", "text"),
        (b"Gr\xf6\xdfe und Stra\xdfe", "a.txt", "text"),
        (&utf16, "a.txt", "text"),
        (&html16, "a.txt", "html"),
        (b"\xff\xfea\0", "a.txt", "text"),
        (b"", "a.txt", "no_text: The file is empty (0 bytes). Upload a file that has content."),
    ];
    for (bytes, filename, expected) in cases {
        assert_eq!(what(bytes, filename), expected, "{filename}: {:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn kinds_of_text_show_in_their_content() {
    let mail =
        "Received: from x by y;\r\n\tMon, 1 Jan 2024\r\nFrom: Ada <ada@example.org>\r\nSubject: Tea\r\n\r\nHello\r\n";
    let program = "import os\n\ndef main():\n    pass\n\nclass Tea:\n    pass\n";
    let cases: [(&str, &str, &str); 19] = [
        (mail, "mail.txt", "eml"),
        ("Note: this\nFrom: me\nis no mail\n", "a.txt", "text"),
        ("{\"a\": [1, 2]}", "a.txt", "json"),
        ("{\"a\": 1}\n{\"a\": 2}\n", "a.json", "jsonl"),
        ("{\"a\": 1}\n{\"a\": 2}\n", "export.log", "jsonl"),
        ("[1, 2", "a.json", "json"),
        ("[note] words in brackets", "a.txt", "text"),
        ("{}", "a.txt", "text"),
        ("a,b,c\n1,2,3\n4,5,6\n", "a.txt", "csv"),
        ("a\tb\n1\t2\n3\t4\n", "table", "csv"),
        ("One, two, and three.\nFour, five, and six.\nSeven.\n", "a.txt", "text"),
        ("words", "a.csv", "csv"),
        ("{\\rtf1\\ansi hello}", "a.doc", "rtf"),
        ("# Title\n\nSee [this](x).\n", "README", "markdown"),
        ("# comment\nkey = 1\n", "settings", "text"),
        (program, "tool.txt", "code"),
        ("We import tea from China.\nIt is good.\n", "a.txt", "text"),
        ("<?php echo 1;", "page", "code"),
        ("{\"a\": 1}", "data.toml", "code"),
    ];
    for (text, filename, expected) in cases {
        assert_eq!(what(text.as_bytes(), filename), expected, "{filename}: {text:?}");
    }
}

#[test]
fn languages_have_names() {
    let cases = [
        ("src/lib.rs", "", Some("rust")),
        ("tool", "#!/usr/bin/env node\n", Some("javascript")),
        ("a.h", "#pragma once\nnamespace x {\n", Some("cpp")),
        ("a.h", "int f(void);\n", Some("c")),
        ("a.txt", "package main\n\nimport (\n\"fmt\"\n)\n\nfunc main() {\n}\n", Some("go")),
        ("a.txt", "Roses are red", None),
    ];
    for (filename, text, expected) in cases {
        assert_eq!(language(filename, text), expected, "{filename}");
    }
}

#[test]
fn containers_are_known_by_their_marks() {
    let mut tar = vec![0; 512];
    tar[TAR_MAGIC].copy_from_slice(b"ustar");
    let cases: [(&[u8], &str); 4] = [
        (b"PK\x03\x04\x14\0\0\0\x08\0%PDF-1.4 stored", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (&tar, "tar"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(what(bytes, "x"), expected);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let cases: [(&[u8], &str); 5] = [
        (
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "a program",
        ),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "an image"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0", "old binary format"),
        (b"%!PS-Adobe-3.0", "PostScript"),
        (b"ab\0\x01\x02cd", "binary data"),
    ];
    for (bytes, named) in cases {
        let failure = detect(bytes, "x").unwrap_err();
        assert_eq!(failure.reason, "unsupported_format");
        assert!(failure.message.contains(named) && failure.message.contains("are taken"), "{}", failure.message);
        assert!(!failure.retryable);
    }
}
