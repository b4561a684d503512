//! Folders as people have them.

use super::*;

fn wanted() -> Wanted {
    Wanted { include: vec![], exclude: vec![], ignore_files: IgnoreFiles::Obeyed, max_size: 1 << 20, max_files: 1000 }
}

fn all(paths: &[PathBuf]) -> Result<Walk, Stop> {
    walk(paths, &wanted())
}

/// Writes these files, with as many bytes as their names have.
fn fill(folder: &Path, names: &[&str]) {
    for name in names {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
}

/// What is below `folder`, as seen from there.
fn below(folder: &Path, paths: impl IntoIterator<Item = PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
}

fn sent(folder: &Path, walk: Walk) -> Vec<String> {
    below(folder, walk.files.into_iter().map(|file| file.path))
}

#[test]
fn a_folder_gives_its_documents_and_says_what_it_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("b/two.md", b"# Two");
    write("a.txt", b"one");
    write("paper.pdf", b"%PDF-1.7\n\x00\x01");
    write("utf16.txt", b"\xff\xfea\x00");
    write("program", b"\x7fELF\x00\x00");
    write("logo.svg", b"<svg/>");
    write("empty.md", b"");
    write(".git/config", b"[core]");
    write(".env", b"SECRET=1");
    write("node_modules/x/readme.md", b"x");
    write("target/CACHEDIR.TAG", b"Signature");
    write("target/doc/x.html", b"<p>");
    #[cfg(unix)]
    std::os::unix::fs::symlink("a.txt", folder.path().join("link.txt")).unwrap();
    let mut found = all(&[folder.path().to_owned()]).unwrap();
    let mut left_out = |reason| {
        let mut paths = below(folder.path(), found.left_out.remove(&reason).unwrap_or_default());
        paths.sort();
        paths
    };
    assert_eq!(left_out(Reason::Hidden), [".env", ".git"]);
    assert_eq!(left_out(Reason::MachineMade), ["node_modules", "target"]);
    assert_eq!(left_out(Reason::Empty), ["empty.md"]);
    assert_eq!(left_out(Reason::NoDocument), ["logo.svg"]);
    assert_eq!(left_out(Reason::Binary), ["program"]);
    #[cfg(unix)]
    assert_eq!(left_out(Reason::SymbolicLink), ["link.txt"]);
    assert!(found.left_out.is_empty(), "{found:?}");
    assert_eq!(sent(folder.path(), found), ["a.txt", "b/two.md", "paper.pdf", "utf16.txt"]);
}

#[test]
fn a_path_is_the_one_that_was_named_without_ornament() {
    for (given, kept) in [("./a/b.md", "a/b.md"), ("../b.md", "../b.md"), ("/a/b.md", "/a/b.md"), (".", ".")] {
        assert_eq!(plain(Path::new(given)), Path::new(kept));
    }
}

#[test]
fn keys_and_passwords_are_not_sent_even_if_their_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("lmao-data");
    drop(DataDir::open(&data, Mode::Exclusive).unwrap());
    fs::write(data.join("admin-password"), "secret").unwrap();
    fs::write(folder.path().join("a.md"), "a").unwrap();
    for path in [folder.path(), &data] {
        let found = all(&[path.to_owned()]).unwrap();
        assert_eq!(found.left_out[&Reason::DataDirectory], [data.as_path()]);
        assert!(found.files.iter().all(|file| file.name() == "a.md"), "{found:?}");
    }
    // File by file, as a shell writes `lmao-data/*` out, and a folder in it.
    let parts = [data.join("admin-password"), data.join("format"), data.join("blobs")];
    fs::create_dir(&parts[2]).unwrap();
    fs::write(parts[2].join("text"), "a").unwrap();
    let found = all(&parts).unwrap();
    assert_eq!((&found.left_out[&Reason::DataDirectory], found.files), (&parts.to_vec(), vec![]));
}

#[cfg(unix)]
#[test]
fn a_link_that_is_named_is_followed_but_not_to_keys_and_passwords() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    drop(DataDir::open(&path("data"), Mode::Exclusive).unwrap());
    fs::write(path("data/admin-password"), "secret").unwrap();
    fs::create_dir(path("texts")).unwrap();
    fs::write(path("texts/a.md"), "a").unwrap();
    for (link, to) in [("docs", "texts"), ("link", "data"), ("word", "data/admin-password"), ("texts/in", "data")] {
        symlink(path(to), path(link)).unwrap();
    }
    let found = all(&[path("docs")]).unwrap();
    assert_eq!(found.left_out, [(Reason::SymbolicLink, vec![path("docs/in")])].into());
    assert_eq!(sent(folder.path(), found), ["docs/a.md"]);
    for named in ["link", "word", "docs/in", "link/admin-password"] {
        let found = all(&[path(named)]).unwrap();
        assert_eq!(found.left_out, [(Reason::DataDirectory, vec![path(named)])].into());
        assert_eq!(found.files, []);
    }
}

#[test]
fn what_is_named_is_sent_once_and_what_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".hidden.bin");
    fs::write(&path, [0, 1, 2]).unwrap();
    let found = all(&[path.clone(), path]).unwrap();
    assert_eq!(sent(folder.path(), found), [".hidden.bin"]);
    assert_eq!(all(&[folder.path().join("nothing")]).unwrap_err().code, Code::Usage);
}

#[test]
fn a_hidden_folder_that_is_named_is_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let hidden = folder.path().join(".notes");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("a.md"), "a").unwrap();
    assert_eq!(sent(&hidden, all(std::slice::from_ref(&hidden)).unwrap()), ["a.md"]);
}

#[test]
fn ignore_files_are_obeyed_and_what_they_name_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fill(
        folder.path(),
        &["a.md", "draft.md", "notes/b.md", "notes/secret.md", "notes/old/c.md", "build/d.md", "e.log"],
    );
    fs::write(path(".gitignore"), "build/\n*.log\n").unwrap();
    fs::write(path(".ignore"), "draft.md\n").unwrap();
    fs::write(path("notes/.lmaoignore"), "/secret.md\nold\n").unwrap();
    let found = all(&[folder.path().to_owned()]).unwrap();
    let mut ignored = below(folder.path(), found.left_out[&Reason::Ignored].clone());
    ignored.sort();
    assert_eq!(ignored, ["build", "draft.md", "e.log", "notes/old", "notes/secret.md"]);
    assert_eq!(found.left_out[&Reason::Hidden].len(), 3);
    assert_eq!(sent(folder.path(), found), ["a.md", "notes/b.md"]);
    // A folder below one that has the ignore file; and one that is ignored, but named.
    assert_eq!(sent(&path("notes"), all(&[path("notes")]).unwrap()), ["b.md"]);
    assert_eq!(sent(&path("build"), all(&[path("build")]).unwrap()), ["d.md"]);
    let everything = Wanted { ignore_files: IgnoreFiles::Disregarded, ..wanted() };
    assert_eq!(walk(&[folder.path().to_owned()], &everything).unwrap().files.len(), 7);
}

#[test]
fn patterns_choose_and_sizes_and_numbers_limit() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &["a.md", "b.txt", "guide/c.md", "guide/deep/d.md", "guide/deep/e.txt", "old/f.md"]);
    let root = [folder.path().to_owned()];
    let found = |wanted: Wanted| sent(folder.path(), walk(&root, &wanted).unwrap());
    let texts = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
    let include = texts(&["*.md"]);
    assert_eq!(
        found(Wanted { include: include.clone(), ..wanted() }),
        ["a.md", "guide/c.md", "guide/deep/d.md", "old/f.md"]
    );
    let exclude = texts(&["old", "deep/*.md"]);
    assert_eq!(found(Wanted { include, exclude, ..wanted() }), ["a.md", "guide/c.md", "guide/deep/d.md"]);
    assert_eq!(
        found(Wanted { exclude: texts(&["**/deep/**", "b.*"]), ..wanted() }),
        ["a.md", "guide/c.md", "old/f.md"]
    );
    assert_eq!(found(Wanted { max_size: 8, ..wanted() }), ["a.md", "b.txt", "old/f.md"]);

    let two = walk(&root, &Wanted { max_files: 2, ..wanted() }).unwrap();
    assert_eq!(two.left_out[&Reason::BeyondMaximum].len(), 4);
    assert_eq!(sent(folder.path(), two), ["a.md", "b.txt"]);
    let wrong = walk(&root, &Wanted { include: texts(&["{a"]), ..wanted() });
    assert_eq!(wrong.unwrap_err().code, Code::Usage);
}

#[test]
fn a_quoted_pattern_is_looked_for_below_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &["a.md", "guide/c.md", "guide/deep/d.md", "guide/deep/e.txt", "b[1].md"]);
    let found = |pattern: &str| all(&[folder.path().join(pattern)]).map(|walk| sent(folder.path(), walk));
    assert_eq!(found("guide/**/*.md").unwrap(), ["guide/c.md", "guide/deep/d.md"]);
    assert_eq!(found("*/*.md").unwrap(), ["guide/c.md"]);
    assert_eq!(found("guide/deep/?.{md,txt}").unwrap(), ["guide/deep/d.md", "guide/deep/e.txt"]);
    assert_eq!(found("b[1].md").unwrap(), ["b[1].md"], "a file of this name is meant");
    for nothing in ["*.pdf", "nowhere/*.md"] {
        assert_eq!(found(nothing).unwrap_err().code, Code::Usage, "{nothing}");
    }
}

#[test]
fn archives_of_documents_are_sent_and_those_of_programs_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (name, bytes) in [
        ("a.tar", tar.as_slice()),
        ("b.tar.gz", b"\x1f\x8b\x08\x00"),
        ("c.zip", b"PK\x03\x04\x00"),
        ("d.jar", b"PK\x03\x04\x00"),
        ("e.sql.gz", b"\x1f\x8b\x08\x00"),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let found = all(&[folder.path().to_owned()]).unwrap();
    assert_eq!(found.left_out[&Reason::NoDocument].len(), 2);
    assert_eq!(sent(folder.path(), found), ["a.tar", "b.tar.gz", "c.zip"]);
}
