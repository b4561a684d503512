use expect_test::{Expect, expect};

use super::*;
use crate::{
    ingest::chunk::{
        Nature, Outline, Reader, Sizer, Syntaxes,
        tests::{cut, pieces},
    },
    text::{Builder, TextDocument},
};

fn document(code: &str) -> TextDocument {
    let mut builder = Builder::new();
    builder.code(code);
    builder.finish().unwrap()
}

/// The passages of a program for a model that reads `max` tokens of four letters: each with its section, its first line and its
/// last.
fn check(language: &str, code: &str, max: usize, expected: &Expect) {
    let document = document(code);
    let sizer = Sizer::new(Some(Reader { model: pieces(512), reads: max }), None, 0);
    let found = cut(&document, &sizer, Nature { language: Some(language), is_mail: false }, 1000).unwrap();
    let mut shown = String::new();
    for span in &found.spans {
        assert_eq!((span.kind.name(), span.language), ("code", Some(language)));
        let text = &document.text[span.start..span.end];
        let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
        shown += &format!("[{}] {first} … {last}\n", found.outline.path(span.section));
    }
    expected.assert_eq(&shown);
}

#[test]
fn rust() {
    let code = "//! A stack.\n\nuse std::fmt;\n\n/// Last in, first out.\n#[derive(Debug)]\npub struct Stack<T> {\n    items: Vec<T>,\n}\n\n\
        impl<T: Clone> Stack<T>\nwhere\n    T: Default,\n{\n    /// Adds one.\n    #[inline]\n    pub fn push(&mut self, item: T) {\n        \
        self.items.push(item);\n        self.changed = true;\n    } // done\n\n    pub async fn pop(&mut self) -> Option<T> {\n        \
        self.changed = true;\n        let item = self.items.pop();\n        item\n    }\n}\n\n// Plain.\nfn main() {\n    \
        println!(\"{}\", 1);\n}\n";
    check(
        "rust",
        code,
        40,
        &expect![[r#"
        [struct Stack] //! A stack. … }
        [impl<T: Clone> Stack<T>] impl<T: Clone> Stack<T> … {
        [impl<T: Clone> Stack<T> > fn push]     /// Adds one. …     } // done
        [impl<T: Clone> Stack<T> > fn pop]     pub async fn pop(&mut self) -> Option<T> { … }
        [fn main] // Plain. … }
    "#]],
    );
}

#[test]
fn python() {
    let code = "import os\n\n\n@dataclass\nclass Account(Base):\n    \"\"\"Of a person.\"\"\"\n\n    name: str\n\n    # How much.\n    \
        @property\n    def balance(self):\n        total = sum(entry.amount for entry in self.entries)\n        return total\n\n    \
        async def close(self, reason):\n        await self.store.remove(self.name, reason)\n\n\ndef main(args):\n    \
        print(Account(args[0]).balance)\n    return 0\n";
    check(
        "python",
        code,
        40,
        &expect![[r#"
        [] import os … import os
        [class Account(Base)] @dataclass …     name: str
        [class Account(Base) > def balance]     # How much. …         return total
        [class Account(Base) > def close]     async def close(self, reason): …         await self.store.remove(self.name, reason)
        [def main] def main(args): …     return 0
    "#]],
    );
}

#[test]
fn javascript_and_typescript() {
    let code = "import x from 'x';\n\n/** Draws. */\nexport default class Canvas extends Element {\n  /** All of it. */\n  draw(shapes) {\n    \
        for (const shape of shapes) shape.drawOn(this.context);\n  }\n\n  static clear() {\n    this.context.clearRect(0, 0, this.width, \
        this.height);\n  }\n}\n\nexport const area = (w, h) => {\n  return w * h * this.scale * this.scale;\n};\n\nfunction helper(a) {\n  return \
        a.filter(Boolean).map(String).join(', ');\n}\n";
    check(
        "javascript",
        code,
        30,
        &expect![[r#"
        [] import x from 'x'; … import x from 'x';
        [class Canvas extends Element] /** Draws. */ … export default class Canvas extends Element {
        [class Canvas extends Element > draw]   /** All of it. */ …   }
        [class Canvas extends Element > clear]   static clear() { … }
        [const area] export const area = (w, h) => { … };
        [function helper] function helper(a) { … }
    "#]],
    );
    let code = "namespace Shapes {\n  export interface Named<T> extends Base { name: T; other: string; third: number }\n\n  @sealed()\n  \
        export abstract class Box<T> implements Named<T> {\n    constructor(private readonly value: T, public name: T) { super(); \
        this.open(value); }\n    get<K>(key: K): T { return this.value.lookup(key) as unknown as T; }\n  }\n}\n";
    check(
        "typescript",
        code,
        30,
        &expect![[r#"
        [namespace Shapes > interface Named<T> extends Base] namespace Shapes { …   export interface Named<T> extends Base { name: T; other: string; third: number }
        [namespace Shapes > class Box<T> implements Named<T>]   @sealed() …   export abstract class Box<T> implements Named<T> {
        [namespace Shapes > class Box<T> implements Named<T> > constructor]     constructor(private readonly value: T, public name: T) { super(); this.open(value); } …     constructor(private readonly value: T, public name: T) { super(); this.open(value); }
        [namespace Shapes > class Box<T> implements Named<T> > get]     get<K>(key: K): T { return this.value.lookup(key) as unknown as T; } … }
    "#]],
    );
}

#[test]
fn go() {
    let code = "package main\n\nimport \"fmt\"\n\n// Server answers.\ntype Server struct {\n\tname string\n\tport int\n}\n\n// Start begins.\n\
        // It blocks.\nfunc (s *Server) Start(ctx context.Context) error {\n\treturn listen(ctx, s.name, s.port)\n}\n\nfunc main() {\n\t\
        fmt.Println(\"hello, world\")\n}\n";
    check(
        "go",
        code,
        36,
        &expect![[r#"
            [type Server] package main … }
            [func (s *Server) Start] // Start begins. … }
            [func main] func main() { … }
        "#]],
    );
}

#[test]
fn java_and_csharp() {
    let code = "package a.b;\n\nimport java.util.List;\n\n/** A queue. */\n@Deprecated\npublic class Queue<T> extends Base implements \
        Closeable {\n    private final List<T> items = new ArrayList<>();\n\n    /** Adds. */\n    @Override\n    public void add(T item) {\n\
        \x20       items.add(item);\n        notifyAll();\n    }\n\n    static class Node {\n        int value;\n    }\n}\n";
    check(
        "java",
        code,
        30,
        &expect![[r#"
        [] package a.b; … import java.util.List;
        [class Queue<T> extends Base implements Closeable] /** A queue. */ … public class Queue<T> extends Base implements Closeable {
        [class Queue<T> extends Base implements Closeable]     private final List<T> items = new ArrayList<>(); …     private final List<T> items = new ArrayList<>();
        [class Queue<T> extends Base implements Closeable > add]     /** Adds. */ …     }
        [class Queue<T> extends Base implements Closeable > class Node]     static class Node { … }
    "#]],
    );
    let code = "using System;\n\nnamespace Shop\n{\n    /// <summary>Sells.</summary>\n    [Serializable]\n    public class Till : Base\n    {\n\
        \x20       public decimal Total { get; private set; }\n\n        public void Add(decimal price)\n        {\n            Total += price * \
        Factor(price);\n        }\n    }\n}\n";
    check(
        "csharp",
        code,
        24,
        &expect![[r#"
        [] using System; … using System;
        [namespace Shop] namespace Shop … {
        [namespace Shop > class Till : Base]     /// <summary>Sells.</summary> …     {
        [namespace Shop > class Till : Base > Total]         public decimal Total { get; private set; } …         public decimal Total { get; private set; }
        [namespace Shop > class Till : Base > Add]         public void Add(decimal price) … }
    "#]],
    );
}

#[test]
fn c_and_cpp() {
    let code = "#ifndef LIST_H\n#define LIST_H\n\n#include <stddef.h>\n\n/* A list. */\ntypedef struct list {\n    struct list *next;\n    void \
        *item;\n} list_t;\n\n/* Its length. */\nstatic size_t *list_length(const list_t *list)\n{\n    size_t n = 0;\n    while (list) { n++; list = \
        list->next; }\n    return n;\n}\n\n#endif\n";
    check(
        "c",
        code,
        24,
        &expect![[r#"
        [] #ifndef LIST_H … #include <stddef.h>
        [list_t] /* A list. */ … } list_t;
        [list_length] /* Its length. */ … {
        [list_length]     size_t n = 0; … #endif
    "#]],
    );
    let code = "namespace geo {\n\ntemplate <typename T>\nclass Point : public Base<T> {\npublic:\n    // Far from zero.\n    T norm() const { \
        return std::sqrt(x * x + y * y + z * z); }\n\nprivate:\n    T x, y, z;\n};\n\ntemplate <typename T>\nT &Point<T>::at(int i) {\n    if (i == 0) \
        return x;\n    return y;\n}\n\n}  // namespace geo\n";
    check(
        "cpp",
        code,
        24,
        &expect![[r#"
        [namespace geo] namespace geo { … class Point : public Base<T> {
        [namespace geo > class Point : public Base<T> > norm] public: …     // Far from zero.
        [namespace geo > class Point : public Base<T> > norm]     T norm() const { return std::sqrt(x * x + y * y + z * z); } …     T norm() const { return std::sqrt(x * x + y * y + z * z); }
        [namespace geo > class Point : public Base<T>] private: … };
        [namespace geo > Point<T>::at] template <typename T> … T &Point<T>::at(int i) {
        [namespace geo > Point<T>::at]     if (i == 0) return x; … }  // namespace geo
    "#]],
    );
}

#[test]
fn ruby() {
    let code = "require 'set'\n\n# People.\nmodule People\n  # One.\n  class Person < Base\n    attr_reader :name\n\n    # Speaks.\n    def \
        speak(words)\n      puts \"#{name} says #{words.join(' ')}\"\n    end\n\n    def self.load(path)\n      new(File.read(path).strip, \
        path)\n    end\n  end\nend\n";
    check(
        "ruby",
        code,
        20,
        &expect![[r#"
        [] require 'set' … require 'set'
        [module People] # People. …   class Person < Base
        [module People > class Person < Base]     attr_reader :name …     attr_reader :name
        [module People > class Person < Base > def speak]     # Speaks. …     end
        [module People > class Person < Base > def self.load]     def self.load(path) … end
    "#]],
    );
}

#[test]
fn what_does_not_parse_is_cut_by_its_lines() {
    let prose = "This is no program at all, it only says so; nobody (can read ]] it.\n".repeat(20);
    for language in ["rust", "java", "go"] {
        assert!(parse(&prose, language).is_none(), "{language}");
    }
    assert!(parse("x = 1", "klingon").is_none());
    // An error further down leaves the rest as it is.
    let code =
        format!("fn good() {{}}\n\nfn bad() {{ let = = ; }}\n\nfn fine() {{ {} }}\n", "work(1, 2);\n".repeat(30));
    let tree = parse(&code, "rust").unwrap();
    let tokens = lmao_ports::Embedder::tokens(&*pieces(512), &code);
    let source = Source { text: &code, tokens: &tokens, section: None, budget: Budget { target: 20, max: 20 } };
    let mut outline = Outline::of(&TextDocument::default());
    let units = units(&tree, &source, &mut outline);
    let labels: Vec<_> = units.iter().map(|unit| unit.label.as_deref().unwrap_or_default()).collect();
    assert_eq!(labels[..2], ["fn good", "fn bad"]);
    assert!(labels.len() > 4 && labels[2..].iter().all(|label| *label == "fn fine"), "{labels:?}");
}

#[test]
fn a_syntax_that_does_not_fit_is_not_believed() {
    let code = (0..90).map(|n| format!("fn né_{n}() {{ work({n}) }}\n\n")).collect::<String>();
    let document = document(&code);
    let sizer = Sizer::new(None, None, 400);
    let nature = Nature { language: Some("rust"), is_mail: false };
    let by_lines = crate::ingest::chunk::cut(&document, &sizer, nature, &Syntaxes::new(), 1000).unwrap();
    let honest = parse(&document.text, "rust").unwrap();
    let with = |syntax: Syntax| {
        crate::ingest::chunk::cut(&document, &sizer, nature, &Syntaxes::from([(0, syntax)]), 1000).unwrap().spans
    };
    assert_ne!(with(honest), by_lines.spans);
    // Of another text, of less of it, and with a byte of a letter.
    let others = ["fn a() {}", &code[..code.len() / 2], &code.replace('é', "")];
    for other in others.map(|other| parse(other.trim_end(), "rust").unwrap()) {
        assert_eq!(with(other), by_lines.spans);
    }
}

#[test]
fn hostile_programs_end() {
    let open = |piece: &str, n: usize| piece.repeat(n);
    let cases = [
        ("rust", open("mod a { ", 60_000)),
        ("rust", open("(", 200_000)),
        ("javascript", open("[{a:", 100_000)),
        ("python", (0..3000).map(|n| format!("{}if x:\n", " ".repeat(n % 900))).collect()),
        ("cpp", open("template<class T> class A { ", 20_000)),
        ("cpp", open("a < b > ( c ) ; ", 40_000)),
        ("ruby", open("<<A + ", 50_000)),
        ("c", open("#if A\n", 50_000)),
        ("java", open("class A { ", 40_000) + &open("}", 40_000)),
        ("go", open("x", 900_000)),
        ("javascript", open("a;", 500_000)),
    ];
    for (language, code) in cases {
        let document = document(&code);
        let sizer = Sizer::new(None, None, 400);
        let found = cut(&document, &sizer, Nature { language: Some(language), is_mail: false }, 1_000_000).unwrap();
        assert!(!found.spans.is_empty());
        assert!(found.spans.iter().all(|span| span.tokens <= 401), "{language}");
        let sections = found.spans.iter().map(|span| found.outline.path(span.section).len()).max();
        assert!(sections.unwrap() < 4000, "{language}");
    }
}
