//! Reading and computing an expression in one pass, by recursive descent.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = signed { ("*" | "/" | "%") signed }
//! signed  = { "+" | "-" } power
//! power   = atom [ "^" signed ]            to the right, and tighter than a sign before it: -2^2 is -4
//! atom    = number | "(" sum ")" | constant | function "(" sum { "," sum } ")"
//! ```

use super::{MAX_LENGTH, function::Function};

/// Parentheses, calls and powers within one another.
const MAX_DEPTH: usize = 64;

/// Why there is no result. Places are characters, from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Error {
    #[error("an expression has at most {MAX_LENGTH} characters, not {0}")]
    TooLong(usize),
    #[error("the expression is nested deeper than {MAX_DEPTH} at {0}")]
    TooDeep(usize),
    #[error("a number is missing at {0}, after the end")]
    Missing(usize),
    #[error("unexpected '{0}' at {1}")]
    Unexpected(char, usize),
    #[error("expected '{wanted}' at {at}, {}", found.map_or_else(|| "after the end".to_owned(), |c| format!("not '{c}'")))]
    Expected { wanted: char, at: usize, found: Option<char> },
    #[error("{0:?} at {1} is no number")]
    NoNumber(String, usize),
    #[error("{0:?} at {1} is too large")]
    TooLarge(String, usize),
    #[error("there is no function or constant {0:?} (at {1})")]
    Unknown(String, usize),
    #[error("{name} at {at} takes {}, not {given}", values(*fewest, *most))]
    Arguments { name: String, at: usize, fewest: usize, most: usize, given: usize },
    #[error("division by zero at {0}")]
    DivisionByZero(usize),
    #[error("the result of {what} at {at} is no real number or too large")]
    NotFinite { what: String, at: usize },
}

fn values(fewest: usize, most: usize) -> String {
    match (fewest, most) {
        (1, 1) => "1 value".to_owned(),
        (fewest, usize::MAX) => format!("{fewest} value or more"),
        (fewest, most) => format!("{fewest} or {most} values"),
    }
}

/// The value of an expression, always finite.
pub(super) fn evaluate(expression: &str) -> Result<f64, Error> {
    let length = expression.chars().count();
    if length > MAX_LENGTH {
        return Err(Error::TooLong(length));
    }
    let mut parser = Parser { chars: expression.chars().collect(), at: 0, depth: 0 };
    let value = parser.sum()?;
    match parser.peek() {
        None => Ok(value),
        Some(c) => Err(Error::Unexpected(c, parser.place())),
    }
}

#[derive(Debug)]
struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn sum(&mut self) -> Result<f64, Error> {
        let mut value = self.product()?;
        loop {
            let at = self.skip_space();
            value = match self.peek() {
                Some(c @ '+') => self.next_operand(Self::product, c, at, |right| value + right)?,
                Some(c @ ('-' | '−')) => self.next_operand(Self::product, c, at, |right| value - right)?,
                _ => return Ok(value),
            };
        }
    }

    fn product(&mut self) -> Result<f64, Error> {
        let mut value = self.signed()?;
        loop {
            let at = self.skip_space();
            value = match self.peek() {
                Some(c @ ('*' | '×' | '·')) => self.next_operand(Self::signed, c, at, |right| value * right)?,
                Some('/' | '÷') => {
                    let right = self.divisor(at)?;
                    finite("/", at, value / right)?
                }
                Some('%') => {
                    let right = self.divisor(at)?;
                    finite("%", at, value % right)?
                }
                _ => return Ok(value),
            };
        }
    }

    /// Passes the operator, reads the operand behind it and applies both.
    fn next_operand(
        &mut self,
        operand: fn(&mut Self) -> Result<f64, Error>,
        operator: char,
        at: usize,
        apply: impl Fn(f64) -> f64,
    ) -> Result<f64, Error> {
        self.at += 1;
        let right = operand(self)?;
        finite(&operator.to_string(), at, apply(right))
    }

    fn divisor(&mut self, at: usize) -> Result<f64, Error> {
        self.at += 1;
        let right = self.signed()?;
        if right == 0.0 { Err(Error::DivisionByZero(at)) } else { Ok(right) }
    }

    fn signed(&mut self) -> Result<f64, Error> {
        let mut sign = 1.0;
        loop {
            match self.peek() {
                Some('-' | '−') => sign = -sign,
                Some('+') => {}
                _ => return Ok(sign * self.power()?),
            }
            self.at += 1;
        }
    }

    fn power(&mut self) -> Result<f64, Error> {
        let base = self.atom()?;
        let at = self.skip_space();
        if self.peek() != Some('^') {
            return Ok(base);
        }
        self.at += 1;
        let exponent = self.nested(Self::signed)?;
        finite("^", at, base.powf(exponent))
    }

    fn atom(&mut self) -> Result<f64, Error> {
        let at = self.skip_space();
        match self.peek() {
            None => Err(Error::Missing(at)),
            Some('(') => {
                self.at += 1;
                let value = self.nested(Self::sum)?;
                self.expect(')')?;
                Ok(value)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() => self.name(),
            Some(c) => Err(Error::Unexpected(c, at)),
        }
    }

    fn number(&mut self) -> Result<f64, Error> {
        let place = self.place();
        let mut text = self.take_while(|c| c.is_ascii_digit() || c == '.');
        let sign = usize::from(matches!(self.chars.get(self.at + 1), Some('+' | '-')));
        let exponent = matches!(self.chars.get(self.at), Some('e' | 'E'))
            && self.chars.get(self.at + 1 + sign).is_some_and(char::is_ascii_digit);
        if exponent {
            text.extend(&self.chars[self.at..=self.at + sign]);
            self.at += 1 + sign;
            text.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(Error::TooLarge(text, place)),
            Err(_) => Err(Error::NoNumber(text, place)),
        }
    }

    fn name(&mut self) -> Result<f64, Error> {
        let at = self.place();
        let name = self.take_while(char::is_alphanumeric).to_lowercase();
        match name.as_str() {
            "pi" | "π" => return Ok(std::f64::consts::PI),
            "e" => return Ok(std::f64::consts::E),
            _ => {}
        }
        let Some(function) = Function::named(&name) else { return Err(Error::Unknown(name, at)) };
        self.expect('(')?;
        let values = self.nested(Self::arguments)?;
        self.expect(')')?;
        let (fewest, most) = function.arguments();
        let given = values.len();
        if given < fewest || given > most {
            return Err(Error::Arguments { name, at, fewest, most, given });
        }
        finite(&name, at, function.apply(&values))
    }

    fn arguments(&mut self) -> Result<Vec<f64>, Error> {
        let mut values = vec![self.sum()?];
        while self.peek() == Some(',') {
            self.at += 1;
            values.push(self.sum()?);
        }
        Ok(values)
    }

    fn nested<T>(&mut self, inner: fn(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::TooDeep(self.place()));
        }
        self.depth += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn expect(&mut self, wanted: char) -> Result<(), Error> {
        let at = self.skip_space();
        let found = self.peek();
        if found != Some(wanted) {
            return Err(Error::Expected { wanted, at, found });
        }
        self.at += 1;
        Ok(())
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars[self.at..].iter().copied().take_while(|c| belongs(*c)).collect();
        self.at += taken.chars().count();
        taken
    }

    /// The next character that is no white space.
    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.chars.get(self.at).copied()
    }

    /// Passes white space; the place behind it.
    fn skip_space(&mut self) -> usize {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.place()
    }

    const fn place(&self) -> usize {
        self.at + 1
    }
}

fn finite(what: &str, at: usize, value: f64) -> Result<f64, Error> {
    if value.is_finite() { Ok(value) } else { Err(Error::NotFinite { what: what.to_owned(), at }) }
}
