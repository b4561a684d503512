//! The programming language of a text: by its name, its interpreter line, and only then by what stands in it.

use super::extension;

/// The programming language, by the name, the interpreter line or unmistakable lines near the beginning.
pub(in crate::ingest) fn language(filename: &str, text: &str) -> Option<&'static str> {
    let name = filename.rsplit(['/', '\\']).next().unwrap_or(filename);
    let by_name = match name {
        "Makefile" | "makefile" | "GNUmakefile" => Some("make"),
        "Dockerfile" | "Containerfile" => Some("dockerfile"),
        "CMakeLists.txt" => Some("cmake"),
        "Rakefile" | "Gemfile" => Some("ruby"),
        _ => None,
    };
    let extension = extension(name);
    let by_extension =
        LANGUAGES.iter().find(|(extensions, _)| extensions.contains(&extension.as_str())).map(|found| found.1);
    match by_name.or(by_extension) {
        // A header of C++ is often named like one of C.
        Some("c") if extension == "h" && is_cpp(text) => Some("cpp"),
        Some(named) => Some(named),
        None => by_interpreter(text).or_else(|| by_content(text).filter(|_| matches!(extension.as_str(), "" | "txt"))),
    }
}

fn is_cpp(text: &str) -> bool {
    let marks = ["class ", "namespace ", "template <", "template<", "public:", "private:", "using "];
    text.lines().take(2000).any(|line| marks.iter().any(|mark| line.trim_start().starts_with(mark)))
}

fn by_interpreter(text: &str) -> Option<&'static str> {
    let line = text.strip_prefix("#!")?.lines().next()?;
    INTERPRETERS.iter().find(|(name, _)| line.contains(name)).map(|(_, language)| *language)
}

/// At least three lines that only this language has, of those near the beginning.
fn by_content(text: &str) -> Option<&'static str> {
    if text.starts_with("<?php") {
        return Some("php");
    }
    if text.starts_with("<?xml") {
        return Some("xml");
    }
    let lines: Vec<&str> = text.lines().take(400).map(str::trim).filter(|line| !line.is_empty()).collect();
    let score = |marks: &[(&str, &str)]| {
        let fits = |line: &&&str| marks.iter().any(|(begin, end)| line.starts_with(begin) && line.ends_with(end));
        lines.iter().filter(fits).count()
    };
    let best = CONTENT.iter().map(|(language, marks)| (score(marks), *language)).max_by_key(|(score, _)| *score)?;
    // Prose that quotes a program is prose.
    (best.0 >= 3 && best.0 * 12 >= lines.len()).then_some(best.1)
}

/// Lines that begin and end so.
type Marks = [(&'static str, &'static str)];

const CONTENT: &[(&str, &Marks)] = &[
    ("rust", &[("fn ", "{"), ("pub fn ", "{"), ("use ", ";"), ("impl", "{"), ("pub struct ", "{"), ("let ", ";")]),
    ("python", &[("def ", ":"), ("class ", ":"), ("import ", ""), ("from ", ""), ("if ", ":"), ("for ", ":")]),
    ("c", &[("#include ", ">"), ("#include ", "\""), ("#define ", ""), ("int ", ";"), ("return ", ";"), ("int ", "{")]),
    ("java", &[("import ", ";"), ("public ", "{"), ("private ", ";"), ("package ", ";"), ("@Override", "")]),
    ("go", &[("func ", "{"), ("import (", ""), ("package ", ""), ("if err != nil {", ""), ("type ", "struct {")]),
    ("javascript", &[("const ", ";"), ("function ", "{"), ("let ", ";"), ("export ", ";"), ("var ", ";")]),
];

const INTERPRETERS: &[(&str, &str)] = &[
    ("python", "python"),
    ("node", "javascript"),
    ("deno", "typescript"),
    ("perl", "perl"),
    ("ruby", "ruby"),
    ("lua", "lua"),
    ("awk", "awk"),
    ("php", "php"),
    ("Rscript", "r"),
    ("sh", "shell"),
];

const LANGUAGES: &[(&[&str], &str)] = &[
    (&["rs"], "rust"),
    (&["py", "pyi", "pyw"], "python"),
    (&["js", "mjs", "cjs", "jsx"], "javascript"),
    (&["ts", "mts", "cts", "tsx"], "typescript"),
    (&["c", "h"], "c"),
    (&["cc", "cpp", "cxx", "hh", "hpp", "hxx", "inl"], "cpp"),
    (&["go"], "go"),
    (&["java"], "java"),
    (&["kt", "kts"], "kotlin"),
    (&["scala", "sc"], "scala"),
    (&["groovy", "gradle"], "groovy"),
    (&["swift"], "swift"),
    (&["m", "mm"], "objective-c"),
    (&["cs"], "csharp"),
    (&["fs", "fsx"], "fsharp"),
    (&["vb"], "visual-basic"),
    (&["rb"], "ruby"),
    (&["php"], "php"),
    (&["pl", "pm"], "perl"),
    (&["lua"], "lua"),
    (&["r"], "r"),
    (&["jl"], "julia"),
    (&["hs"], "haskell"),
    (&["ml", "mli"], "ocaml"),
    (&["ex", "exs"], "elixir"),
    (&["erl", "hrl"], "erlang"),
    (&["clj", "cljs", "edn"], "clojure"),
    (&["lisp", "el", "scm"], "lisp"),
    (&["zig"], "zig"),
    (&["nim"], "nim"),
    (&["d"], "d"),
    (&["dart"], "dart"),
    (&["f90", "f95", "for"], "fortran"),
    (&["pas"], "pascal"),
    (&["sh", "bash", "zsh", "fish", "ksh"], "shell"),
    (&["ps1"], "powershell"),
    (&["bat", "cmd"], "batch"),
    (&["sql"], "sql"),
    (&["asm", "s"], "assembly"),
    (&["vue"], "vue"),
    (&["svelte"], "svelte"),
    (&["css", "scss", "less"], "css"),
    (&["json5", "jsonc"], "json"),
    (&["toml"], "toml"),
    (&["yaml", "yml"], "yaml"),
    (&["xml", "xsd", "xsl", "svg"], "xml"),
    (&["ini", "cfg", "conf"], "ini"),
    (&["proto"], "protobuf"),
    (&["graphql", "gql"], "graphql"),
    (&["cmake"], "cmake"),
    (&["mk"], "make"),
    (&["nix"], "nix"),
    (&["tf", "hcl"], "hcl"),
    (&["tex", "sty"], "latex"),
];
