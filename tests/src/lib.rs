//! The tests of the whole system live in `tests/`: one binary, so that it is linked once. Nothing depends on this crate.
