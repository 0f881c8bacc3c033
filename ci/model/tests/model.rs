//! Which models hold, and which must not.
#![cfg(crossbeam_loom)]

use kedge_model::*;

#[test]
fn a_reader_sees_whole_versions_in_order_and_frees_none() {
    shipped::publication(1, 2, 2);
}

#[test]
fn publication_waits_at_the_bound() {
    shipped::publication(2, 1, 1);
}

#[test]
fn what_is_held_is_not_used_again() {
    shipped::reuse();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_finds_that_a_version_is_freed_at_once() {
    frees_at_once::publication(1, 2, 1);
}

#[test]
#[should_panic(expected = "3 versions")]
fn loom_finds_that_the_bound_is_forgotten() {
    forgets_the_bound::publication(2, 1, 1);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_finds_that_a_reader_unpins_early() {
    unpins_early::publication(1, 2, 1);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_finds_that_a_reader_sees_a_pointer_before_what_is_behind_it() {
    reads_relaxed::publication(1, 2, 1);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_finds_that_held_lines_are_used_again() {
    ignores_tokens::reuse();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_finds_that_an_older_version_is_forgotten() {
    youngest_first::reuse();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_finds_that_a_version_has_no_token() {
    hands_out_another_token::reuse();
}
