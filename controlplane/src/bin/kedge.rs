//! Filled in by its owner.
fn main() {}
