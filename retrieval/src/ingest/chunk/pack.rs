//! Packing: neighbouring pieces of one section become a passage, up to the target.

use super::{Budget, ChunkType, Nature, Outline, Passages, Piece, Sizer, Span, TINY, split};
use crate::text::{Kind, TextDocument};

/// Of a passage of code and words, the lesser part is at least one in so many, or it does not count.
const MIXED_SHARE: usize = 6;

/// A passage that is being packed.
#[derive(Debug)]
struct Open<'a> {
    start: usize,
    end: usize,
    tokens: usize,
    section: Option<u32>,
    /// Only headings so far.
    bare: bool,
    weights: Weights,
    language: Shared<&'a str>,
    label: Shared<String>,
    /// Tokens of pieces with a label.
    labelled: usize,
}

impl<'a> Open<'a> {
    fn new(start: usize, tokens: usize, piece: Piece<'a>) -> Self {
        let mut open = Self {
            start,
            end: piece.end,
            tokens,
            section: piece.section,
            bare: true,
            weights: Weights::default(),
            language: Shared::Unsaid,
            label: Shared::Unsaid,
            labelled: 0,
        };
        open.take(piece);
        open
    }

    fn join(&mut self, piece: Piece<'a>) {
        self.end = piece.end;
        self.tokens += piece.tokens + 1;
        // A heading followed by its subsection lies in the subsection from then on.
        if self.bare {
            self.section = piece.section;
        }
        self.take(piece);
    }

    fn take(&mut self, piece: Piece<'a>) {
        self.bare &= matches!(piece.kind, Kind::Heading(_));
        self.weights.add(&piece);
        self.language.add(piece.language);
        self.labelled += if piece.label.is_some() { piece.tokens } else { 0 };
        self.label.add(piece.label);
    }
}

/// Tokens by kind.
#[derive(Debug, Clone, Copy, Default)]
struct Weights {
    prose: usize,
    list: usize,
    table: usize,
    code: usize,
}

impl Weights {
    fn add(&mut self, piece: &Piece<'_>) {
        match piece.kind {
            Kind::Heading(_) => {}
            Kind::Paragraph => self.prose += piece.tokens,
            Kind::List => self.list += piece.tokens,
            Kind::Table => self.table += piece.tokens,
            Kind::Code => self.code += piece.tokens,
        }
    }

    fn chunk_type(self) -> ChunkType {
        let Self { prose, list, table, code } = self;
        let words = prose + list + table;
        if words + code == 0 {
            ChunkType::Heading
        } else if words.min(code) * MIXED_SHARE >= words + code {
            ChunkType::Mixed
        } else if code > words {
            ChunkType::Code
        } else if prose >= list.max(table) {
            ChunkType::Prose
        } else if list >= table {
            ChunkType::List
        } else {
            ChunkType::Table
        }
    }
}

/// What all pieces agree on that say anything.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shared<T> {
    Unsaid,
    All(T),
    Differs,
}

impl<T: PartialEq> Shared<T> {
    fn add(&mut self, said: Option<T>) {
        match (&mut *self, said) {
            (Self::Unsaid, Some(said)) => *self = Self::All(said),
            (Self::All(before), Some(said)) if *before != said => *self = Self::Differs,
            _ => {}
        }
    }

    fn get(self) -> Option<T> {
        if let Self::All(said) = self { Some(said) } else { None }
    }
}

#[derive(Debug)]
pub(super) struct Packer<'a, 'b> {
    document: &'a TextDocument,
    sizer: &'b Sizer,
    outline: Outline,
    nature: Nature<'a>,
    open: Option<Open<'a>>,
    done: Vec<Span<'a>>,
}

impl<'a, 'b> Packer<'a, 'b> {
    pub(super) fn new(document: &'a TextDocument, sizer: &'b Sizer, outline: Outline, nature: Nature<'a>) -> Self {
        Self { document, sizer, outline, nature, open: None, done: vec![] }
    }

    /// The sections, to have more below them.
    pub(super) fn outline_mut(&mut self) -> &mut Outline {
        &mut self.outline
    }

    /// Passages that are packed.
    pub(super) fn len(&self) -> usize {
        self.done.len()
    }

    pub(super) fn finish(mut self) -> Passages<'a> {
        self.close();
        Passages { spans: self.done, outline: self.outline }
    }

    /// Takes the next piece, in the order of the text.
    pub(super) fn add(&mut self, piece: Piece<'a>) {
        if let Some(open) = &mut self.open
            && fits(open, &piece, &self.outline, self.sizer.budget())
        {
            open.join(piece);
            return;
        }
        self.close();
        let (start, tokens) = piece.overlap.unwrap_or((piece.start, piece.tokens));
        self.open = Some(Open::new(start, tokens, piece));
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let kind = open.weights.chunk_type();
        let section = match open.label.get() {
            // Not what little of it has a name.
            Some(label) if kind == ChunkType::Code && open.labelled * 2 >= open.tokens => {
                Some(self.outline.child(open.section, &label))
            }
            _ => open.section,
        };
        let span = Span {
            start: open.start,
            end: open.end,
            tokens: open.tokens,
            kind: self.in_a_mail(kind, section),
            section,
            home: open.section,
            language: open.language.get().filter(|_| kind == ChunkType::Code),
        };
        // A last short piece of a section joins the passage before it.
        if open.tokens < TINY
            && !open.bare
            && let Some(last) = self.done.last_mut()
            && last.home == span.home
            && last.kind == span.kind
            && self.sizer.fits(&self.document.text[last.start..span.end])
        {
            last.end = span.end;
            last.tokens += span.tokens;
            last.language = last.language.filter(|language| span.language == Some(*language));
            if last.section != section {
                last.section = last.home;
            }
            return;
        }
        self.push(span);
    }

    /// A mail's own words are messages. Attached files are sections named like files, and stay what they are, unless they are
    /// mails. The first section is the subject, whatever it reads like.
    fn in_a_mail(&self, kind: ChunkType, section: Option<u32>) -> ChunkType {
        let file = || self.outline.titles(section).find(|(at, title)| *at > 0 && is_file_name(title));
        let own = self.nature.is_mail && file().is_none_or(|(_, title)| title.ends_with(".eml"));
        match kind {
            ChunkType::Prose | ChunkType::List | ChunkType::Heading if own => ChunkType::Message,
            kind => kind,
        }
    }

    /// Keeps a passage, in parts where the domain model would not read all of it.
    fn push(&mut self, span: Span<'a>) {
        let text = &self.document.text[span.start..span.end];
        let overlong = matches!(span.kind, ChunkType::Code | ChunkType::Mixed)
            .then(|| self.sizer.too_long_for_domain(text))
            .flatten();
        let Some((tokens, reads)) = overlong else { return self.done.push(span) };
        let budget = Budget { target: reads, max: reads };
        for cut in split::split(text, &tokens, Kind::Code, budget) {
            let (start, end) = (span.start + cut.start, span.start + cut.end);
            self.done.push(Span { start, end, tokens: self.sizer.tokens(&text[cut.start..cut.end]).len(), ..span });
        }
    }
}

/// Whether a piece may join a passage.
fn fits(open: &Open<'_>, piece: &Piece<'_>, outline: &Outline, budget: Budget) -> bool {
    let tokens = open.tokens + piece.tokens + 1;
    if tokens > budget.max {
        return false;
    }
    // Headings never end a passage, and what begins a section stays with it, unless there is hardly anything above.
    let small = open.bare || open.tokens < TINY;
    if piece.section != open.section
        && !(small && outline.lies_in(piece.section, open.section) && open.section.is_some())
    {
        return false;
    }
    small || tokens <= budget.target && !piece.anchor
}

/// `report.pdf`: words with an extension that has a letter.
fn is_file_name(title: &str) -> bool {
    title.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.is_empty()
            && (1..=5).contains(&extension.len())
            && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && extension.bytes().any(|byte| byte.is_ascii_alphabetic())
    })
}
