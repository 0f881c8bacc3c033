//! Traffic generator and benches of Kedge.
fn main() {}
