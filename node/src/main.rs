//! The `lmao` binary: nothing but the call of the library, which tests and benches use too.

use std::process::ExitCode;

fn main() -> ExitCode {
    lmao::main()
}
