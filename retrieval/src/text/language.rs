//! Names of programming languages: one for each, whatever a fence or an attribute calls it.

use super::MAX_LANGUAGE_BYTES;

/// Other names of languages, as people write them behind a fence.
const ALIASES: &[(&str, &str)] = &[
    ("rs", "rust"),
    ("py", "python"),
    ("python3", "python"),
    ("py3", "python"),
    ("pycon", "python"),
    ("js", "javascript"),
    ("jsx", "javascript"),
    ("mjs", "javascript"),
    ("node", "javascript"),
    ("ts", "typescript"),
    ("tsx", "typescript"),
    ("golang", "go"),
    ("h", "c"),
    ("c++", "cpp"),
    ("cc", "cpp"),
    ("cxx", "cpp"),
    ("hpp", "cpp"),
    ("cs", "csharp"),
    ("c#", "csharp"),
    ("c-sharp", "csharp"),
    ("rb", "ruby"),
    ("kt", "kotlin"),
    ("sh", "shell"),
    ("bash", "shell"),
    ("zsh", "shell"),
    ("console", "shell"),
    ("shell-session", "shell"),
    ("yml", "yaml"),
    ("jsonc", "json"),
    ("ps1", "powershell"),
    ("hs", "haskell"),
    ("pl", "perl"),
    ("make", "make"),
    ("makefile", "make"),
    ("docker", "dockerfile"),
];
/// Names that say that something is no program.
const NO_LANGUAGE: &[&str] = &["text", "txt", "plain", "plaintext", "none", "output", "no-highlight", "nohighlight"];

/// The language that a mark such as `rs`, `rust,ignore`, `language-rust` or `{.python}` names, in lower case; `None` if it
/// names none.
#[must_use]
pub fn code_language(mark: &str) -> Option<String> {
    let mark = mark.trim().trim_start_matches(['{', '.']);
    let mark = ["language-", "lang-", "highlight-source-", "highlight-"]
        .iter()
        .find_map(|prefix| mark.strip_prefix(prefix))
        .unwrap_or(mark);
    let end =
        mark.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '#' | '-' | '_'))).unwrap_or(mark.len());
    let name = mark[..end].to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_LANGUAGE_BYTES || NO_LANGUAGE.contains(&name.as_str()) {
        return None;
    }
    let known = ALIASES.iter().find(|(alias, _)| *alias == name);
    Some(known.map_or(name, |(_, language)| (*language).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_one_name() {
        let of = |mark| code_language(mark).unwrap_or_default();
        assert_eq!(
            ["rs", "rust,ignore", "language-C++", "{.python .numberLines}", "cs", "mermaid", " Bash "].map(of),
            ["rust", "rust", "cpp", "python", "csharp", "mermaid", "shell"]
        );
        assert_eq!(["", "text", "plaintext", "{}", "!", &"x".repeat(40)].map(of), [""; 6]);
    }
}
