//! Makes broken variants of the files under test: loom must find each, or it would prove nothing.

use std::{env, fs, path::Path};

const PUBLISH: &str = "../../dataplane/src/snapshot/publish.rs";
const VERSIONS: &str = "../../dataplane/src/versions.rs";

/// The variant's name, its file, what to replace, and with what.
const BROKEN: [(&str, &str, &str, &str); 7] = [
    // Does not wait for those who are pinned.
    (
        "frees_at_once",
        PUBLISH,
        "guard.defer_unchecked(move || retired.push(address));",
        "let _ = retired.push(address);",
    ),
    // Gives back, but counts nothing: the queue overflows, and an address is lost.
    (
        "forgets_the_bound",
        PUBLISH,
        "while self.outstanding >= self.slot.retired.capacity() {",
        "while false {",
    ),
    // Reads through a pin that has ended.
    (
        "unpins_early",
        PUBLISH,
        "let value = unsafe { &*current.as_raw() };",
        "let value = unsafe { &*current.as_raw() };\ndrop(guard);\nlet guard = self.handle.pin();",
    ),
    // Sees the pointer, but perhaps not what is behind it.
    (
        "reads_relaxed",
        PUBLISH,
        "self.slot.current.load(Ordering::Acquire, &guard)",
        "self.slot.current.load(Ordering::Relaxed, &guard)",
    ),
    // Uses again what is still held.
    (
        "ignores_tokens",
        VERSIONS,
        "if Token::get_mut(held).is_none() {",
        "if false {",
    ),
    // Looks at the youngest version first: an older one may refer to what that one gave up.
    ("youngest_first", VERSIONS, "front_mut()", "back_mut()"),
    // Forgets the last version's own token: it gives up what it has when it should wait.
    (
        "hands_out_another_token",
        VERSIONS,
        "self.last.clone()",
        "Token::new(())",
    ),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PUBLISH}");
    println!("cargo::rerun-if-changed={VERSIONS}");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    for (name, file, from, to) in BROKEN {
        let text = fs::read_to_string(file).expect(file);
        assert_eq!(
            text.matches(from).count(),
            1,
            "{file} has changed: adapt what {name} replaces"
        );
        let mut text = text.replace(from, to);
        if name == "youngest_first" {
            text = text.replace("pop_front()", "pop_back()");
        }
        // `include!` takes no documentation of the module itself.
        let text = text.replace("\n//!", "\n//").replacen("//!", "//", 1);
        fs::write(Path::new(&out).join(format!("{name}.rs")), text).expect("OUT_DIR can be written");
    }
}
