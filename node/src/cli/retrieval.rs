//! Options of the commands that take files in, find passages and measure how well.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::parse;

/// `lmao ingest`.
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Files, folders with all that is in them, and patterns such as 'docs/**/*.md' in quotes. Hidden files, symbolic links,
    /// data directories, files that are plainly no text and what .gitignore, .ignore or .lmaoignore name are left out of
    /// folders; a file that is named itself is sent, unless it is in a data directory.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only files of folders that match this pattern, for example '*.md' or 'guide/**'. May be repeated: any will do.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No files or folders that match this pattern. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Send what .gitignore, .ignore and .lmaoignore name, too.
    #[arg(long)]
    pub no_ignore: bool,
    /// No files that are larger, for example 10MB or 512KiB. The server takes 512 MiB.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse::size)]
    pub max_size: u64,
    /// The first so many files, by their paths; the others are left out.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_files: u64,
    /// A word to find the documents by. May be repeated.
    #[arg(long, value_name = "TAG", value_parser = parse::tag)]
    pub tag: Vec<String>,
    /// Leave older versions of the files that are sent. Without it they are deleted once the new version can be found: documents
    /// that came from the same path of the same machine and hold something else.
    #[arg(long)]
    pub keep_old: bool,
    /// Delete documents that came from the folders named and whose file is not there any more; with --dry-run, list them.
    /// Nothing is asked. A folder that is missing, or has nothing in it that could be sent, is refused.
    #[arg(long)]
    pub prune: bool,
    /// Prune even if a folder is missing or has nothing in it.
    #[arg(long, requires = "prune")]
    pub force: bool,
    /// What the machine is called that the files are on [default: its host name]. The same path on two machines is two files;
    /// give both one name if they see the same files, or if the host name changes, as that of a container does.
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
    /// List what would be sent, and send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Name every file that was left out, not only the first few. JSON always does.
    #[arg(long, short)]
    pub verbose: bool,
}

/// `lmao search`.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// What to find.
    #[arg(required = true, value_name = "QUERY", value_parser = parse::words)]
    pub query: Vec<String>,
    /// By which legs.
    #[arg(long = "type", value_name = "TYPE", default_value = "hybrid")]
    pub search_type: SearchType,
    /// How many passages at most.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max: u32,
    /// How many passages to leave out before the first: the next page.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..1000))]
    pub offset: u32,
    /// Only passages of which this holds; may be repeated: several values of one key are alternatives. Keys: document, file,
    /// type, language, chunk-type, tag, author, section (with all below it), page (3, or 3-7), from and before (a day, or a time
    /// as in RFC 3339).
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::search_filter)]
    pub filter: Vec<(SearchKey, String)>,
    /// How much unlikeness counts beside relevance when passages are chosen, from 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    pub diversity: Option<f32>,
    /// Say how the results came about: what was searched for, by which legs, and each result's place in each.
    #[arg(long)]
    pub explain: bool,
}

/// What a search can be narrowed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchKey {
    /// A document's id.
    Document,
    /// A file's name.
    File,
    /// A file's type.
    Type,
    /// A language.
    Language,
    /// A passage's type.
    ChunkType,
    /// A tag.
    Tag,
    /// An author.
    Author,
    /// A section's path.
    Section,
    /// A page, or from one to another.
    Page,
    /// From when on.
    From,
    /// Before when.
    Before,
}

/// By which legs to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchType {
    /// By words and by meaning, fused.
    Hybrid,
    /// By meaning.
    Semantic,
    /// By words.
    Keyword,
    /// All, in passages of code only.
    Code,
}

impl SearchType {
    /// The name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Semantic => "semantic",
            Self::Keyword => "keyword",
            Self::Code => "code",
        }
    }
}

/// `lmao eval`.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// The collection: a folder with corpus.jsonl (id, text, perhaps title), queries.jsonl (id, text) and qrels.json (query id,
    /// document id, grade). It is taken into an index of its own, which is gone afterwards; with --server, the server is asked,
    /// which has to have each document as a file named by its id.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Measure the legs and what each stage adds, one row each.
    #[arg(long)]
    pub stages: bool,
    /// By which legs.
    #[arg(long = "search-type", value_name = "TYPE", default_value = "hybrid", conflicts_with = "stages")]
    pub search_type: SearchType,
    /// Only the first so many queries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Take each document for a file with this ending, for example py; by its content unless given.
    #[arg(long, value_name = "ENDING")]
    pub extension: Option<String>,
}
