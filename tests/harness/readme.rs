//! The PAM stacks and settings that README and docs/fedora.md show, so that tests run them byte for byte.

const README: &str = include_str!("../../README.md");
pub const FEDORA: &str = include_str!("../../docs/fedora.md");
const MARKER: [&str; 2] = ["<!-- tested: ", " -->"];

/// The names of all blocks of README.md.
pub fn names() -> impl Iterator<Item = &'static str> {
    names_in(README)
}

pub fn names_in(page: &'static str) -> impl Iterator<Item = &'static str> {
    let [start, end] = MARKER;
    page.split(start).skip(1).map(move |behind| behind.split_once(end).expect("the marker's end").0)
}

/// The fenced block behind `<!-- tested: NAME -->` in README.md.
pub fn block(name: &str) -> String {
    block_in(README, name)
}

pub fn block_in(page: &str, name: &str) -> String {
    let [start, end] = MARKER;
    let marker = format!("{start}{name}{end}");
    let (_, behind) = page.split_once(&marker).unwrap_or_else(|| panic!("there is no block {name:?}"));
    let (fence, fenced) = behind.trim_start().split_once('\n').expect("a block");
    assert!(fence.starts_with("```"), "no fenced block behind {marker}");
    fenced.split_once("```").expect("the end of the block").0.into()
}

/// What takes in the lines of another file, in Debian's PAM files of services and in swaylock's.
const INCLUDES: [&str; 2] = ["@include common-auth", "auth include login"];

/// Debian's PAM file of a service with the line that includes another one replaced by a stack, as README says.
pub fn with_stack(original: &str, stack: &str) -> String {
    let is_include = |line: &str| INCLUDES.contains(&line.trim());
    assert!(original.lines().any(is_include), "{original}");
    let lines =
        original.lines().map(|line| if is_include(line) { stack.into() } else { format!("{line}\n") });
    lines.collect()
}
