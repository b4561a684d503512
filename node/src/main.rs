//! The `lmao` binary: nothing but the call of the library, which tests and benches use too, and its allocator.

use std::process::ExitCode;

/// A turn is thousands of small allocations, freed on other threads than they were made on: this one does that with less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lmao::main()
}
