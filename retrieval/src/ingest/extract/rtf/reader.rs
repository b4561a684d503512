//! The tokens of an RTF file.

/// Bytes of a control word's name; longer ones are none.
const NAME_BYTES: usize = 32;

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `{`
    Open,
    /// `}`
    Close,
    /// `\name` with its number, if it has one.
    Word(&'a str, Option<i32>),
    /// `\~` and the like.
    Symbol(u8),
    /// `\'xx`
    Byte(u8),
    /// Characters in the code page of the place; ASCII nearly always.
    Text(&'a [u8]),
}

/// Reads tokens until the end, whatever the bytes are.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, keep: impl Fn(&u8) -> bool) -> &'a [u8] {
        self.take(self.rest.iter().take_while(|byte| keep(byte)).count())
    }

    /// What follows a backslash.
    fn control(&mut self) -> Option<Token<'a>> {
        let first = *self.rest.first()?;
        if first == b'\'' {
            self.take(1);
            let digits = self.take(self.rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count());
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            return Some(u8::from_str_radix(digits, 16).map_or(Token::Text(b""), Token::Byte));
        }
        if !first.is_ascii_alphabetic() {
            self.take(1);
            return Some(Token::Symbol(first));
        }
        let name = self.take(self.rest.iter().take(NAME_BYTES).take_while(|byte| byte.is_ascii_alphabetic()).count());
        let name = std::str::from_utf8(name).unwrap_or_default();
        let minus = self.rest.first() == Some(&b'-') && self.rest.get(1).is_some_and(u8::is_ascii_digit);
        if minus {
            self.take(1);
        }
        let digits = std::str::from_utf8(self.take_while(u8::is_ascii_digit)).unwrap_or_default();
        let number = (!digits.is_empty()).then(|| digits.parse::<i32>().unwrap_or(i32::MAX));
        let number = number.map(|number| if minus { -number } else { number });
        // One space belongs to the word.
        if self.rest.first() == Some(&b' ') {
            self.take(1);
        }
        if name == "bin" {
            // Raw bytes that may look like anything.
            self.take(usize::try_from(number.unwrap_or(0)).unwrap_or(0));
        }
        Some(Token::Word(name, number))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match self.rest.first()? {
                b'{' => {
                    self.take(1);
                    return Some(Token::Open);
                }
                b'}' => {
                    self.take(1);
                    return Some(Token::Close);
                }
                b'\\' => {
                    self.take(1);
                    return self.control();
                }
                // Line ends are for the reader of the file only.
                b'\r' | b'\n' | b'\0' => _ = self.take(1),
                _ => {
                    return Some(Token::Text(
                        self.take_while(|byte| !matches!(byte, b'{' | b'}' | b'\\' | b'\r' | b'\n' | b'\0')),
                    ));
                }
            }
        }
    }
}
