//! The tool `calculator`: arithmetic.

mod function;
mod number;
mod parse;

use std::time::Duration;

use async_trait::async_trait;
use lmao_events::Failure;
use lmao_ports::ToolSpec;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Call, Tool};

/// Characters of an expression.
const MAX_LENGTH: usize = 1000;

/// Computes an expression.
#[derive(Debug)]
pub struct Calculator;

#[derive(Debug, Deserialize)]
struct Parameters {
    expression: String,
}

#[async_trait]
impl Tool for Calculator {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "calculator".to_owned(),
            description:
                "Computes an arithmetic expression: + - * / % ^, parentheses, sqrt abs min max round floor ceil \
                          ln log10 exp sin cos tan (radians), pi and e. About 15 digits."
                    .to_owned(),
            capabilities: vec!["arithmetic".to_owned()],
            parameters: json!({
                "type": "object",
                "properties": {
                    "expression": {
                        "type": "string", "minLength": 1, "maxLength": MAX_LENGTH,
                        "description": "for example (1 + 2) * sqrt(16) or round(2/3, 4)"
                    }
                },
                "required": ["expression"],
                "additionalProperties": false
            }),
            repeatable: true,
            timeout: Duration::from_secs(5),
        }
    }

    async fn run(&self, call: Call) -> Result<Value, Failure> {
        let Parameters { expression } = call.parameters()?;
        let value =
            parse::evaluate(&expression).map_err(|error| Failure::lasting("bad_expression", error.to_string()))?;
        Ok(json!({ "expression": expression, "result": number::json(value), "text": number::text(value) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn run(expression: &str) -> Result<Value, Failure> {
        let parameters = json!({ "expression": expression });
        let call = Call { owner: Uuid::nil(), parameters, idempotency_key: Uuid::nil() };
        runtime().block_on(Calculator.run(call))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn results() {
        for (expression, text) in [
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("0.1 + 0.2", "0.3"),
            ("10 / 4", "2.5"),
            ("10 % 4", "2"),
            ("-7 % 3", "-1"),
            ("2 ^ 3 ^ 2", "512"),
            ("-2 ^ 2", "-4"),
            ("2 ^ -1", "0.5"),
            ("--3", "3"),
            ("+3 - -3", "6"),
            ("1e3 + 1.5E-1", "1000.15"),
            (".5 * 4.", "2"),
            ("1 / 3", "0.333333333333333"),
            ("123456789 * 12345678", "1524157763907942"),
            ("2 ^ 100", "1.26765060022823e30"),
            ("1 / 2 ^ 40", "9.09494701772928e-13"),
            ("1e-20 * 2", "2e-20"),
            ("0 * -1", "0"),
            ("sqrt(2) ^ 2", "2"),
            ("max(1, 5, 3) - min(4, 2)", "3"),
            ("round(2.5) + round(-2.5)", "0"),
            ("round(2/3, 4)", "0.6667"),
            ("round(1234.5, -2)", "1200"),
            ("floor(-1.5) + ceil(1.2)", "0"),
            ("abs(-3) + ln(e) + log10(1000) + exp(0)", "8"),
            ("sin(pi)", "0"),
            ("cos(0) + tan(0)", "1"),
            ("SQRT(16) + Pi - pi", "4"),
            ("6 × 7 ÷ 2 − 1", "20"),
        ] {
            assert_eq!(run(expression).map(|result| result["text"].clone()), Ok(json!(text)), "{expression}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        for (expression, message) in [
            ("1 / 0", "division by zero at 3"),
            ("1 % (2 - 2)", "division by zero at 3"),
            ("2 * (3", "expected ')' at 7, after the end"),
            ("2 + 3)", "unexpected ')' at 6"),
            ("2 +", "a number is missing at 4, after the end"),
            ("* 2", "unexpected '*' at 1"),
            ("", "a number is missing at 1, after the end"),
            ("2(3)", "unexpected '(' at 2"),
            ("2 3", "unexpected '3' at 3"),
            ("1 & 2", "unexpected '&' at 3"),
            ("1.2.3", "\"1.2.3\" at 1 is no number"),
            ("foo(1)", "there is no function or constant \"foo\" (at 1)"),
            ("sqrt 4", "expected '(' at 6, not '4'"),
            ("sqrt(1, 2)", "sqrt at 1 takes 1 value, not 2"),
            ("min()", "unexpected ')' at 5"),
            ("round(1, 2, 3)", "round at 1 takes 1 or 2 values, not 3"),
            ("sqrt(-1)", "the result of sqrt at 1 is no real number"),
            ("ln(0)", "the result of ln at 1 is no real number or too large"),
            ("(-8) ^ 0.5", "the result of ^ at 6 is no real number"),
            ("10 ^ 400", "the result of ^ at 4 is no real number or too large"),
            ("1e400", "\"1e400\" at 1 is too large"),
            ("1e308 * 10", "the result of * at 7 is no real number or too large"),
        ] {
            let failure = run(expression).unwrap_err();
            assert!(failure.message.starts_with(message), "{expression}: {}", failure.message);
            assert_eq!((failure.reason.as_str(), failure.retryable), ("bad_expression", false));
        }
    }

    #[test]
    fn depth_and_length_are_limited() {
        let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(run(&nested(60)).is_ok());
        for expression in [nested(65), nested(499), vec!["2"; 100].join("^"), format!("{}1", "sqrt(".repeat(150))] {
            assert!(run(&expression).unwrap_err().message.contains("nested deeper than 64"), "{expression}");
        }
        assert_eq!(run(&format!("{}1", "-".repeat(998))).unwrap()["text"], "1");
        assert!(run(&"1".repeat(MAX_LENGTH + 1)).unwrap_err().message.contains("1000 characters"));
    }

    #[test]
    fn whole_results_are_json_integers() {
        assert_eq!(run("2 ^ 53").unwrap()["result"], json!(9_007_199_254_740_992_i64));
        assert_eq!(run("0.1 + 0.2").unwrap()["result"], json!(0.3));
    }

    proptest! {
        #[test]
        fn any_text_is_a_result_or_an_error(text in "\\PC{0,40}") {
            let _ = run(&text);
        }

        #[test]
        fn anything_that_looks_like_an_expression_is_a_finite_result_or_an_error(
            text in "([0-9.()+*/%^, -]|e|pi|sqrt\\(|min\\(|round\\(|ln\\(|tan\\(|exp\\(|é){0,30}",
        ) {
            if let Ok(result) = run(&text) {
                prop_assert!(result["result"].is_number());
                let shown: f64 = result["text"].as_str().unwrap().parse().unwrap();
                prop_assert!(shown.is_finite());
            }
        }

        #[test]
        fn sums_agree_with_integers(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
            prop_assert_eq!(run(&format!("({a}) + {b} * 3")).unwrap()["result"].clone(), json!(a + b * 3));
        }
    }
}
