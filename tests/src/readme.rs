//! The PAM stacks and settings that README shows, so that tests run them byte for byte.

const README: &str = include_str!("../../README.md");
const MARKER: [&str; 2] = ["<!-- tested: ", " -->"];

/// The names of all blocks.
pub fn names() -> impl Iterator<Item = &'static str> {
    let [start, end] = MARKER;
    README.split(start).skip(1).map(move |behind| behind.split_once(end).expect("the marker's end").0)
}

/// The fenced block behind `<!-- tested: NAME -->` in README.md.
pub fn block(name: &str) -> String {
    let [start, end] = MARKER;
    let marker = format!("{start}{name}{end}");
    let (_, behind) = README.split_once(&marker).unwrap_or_else(|| panic!("README has no block {name:?}"));
    let (fence, fenced) = behind.trim_start().split_once('\n').expect("a block");
    assert!(fence.starts_with("```"), "no fenced block behind {marker}");
    fenced.split_once("```").expect("the end of the block").0.into()
}

/// Debian's PAM file of a service with its line `@include common-auth` replaced by a stack, as README says.
pub fn with_stack(original: &str, stack: &str) -> String {
    let include = "@include common-auth";
    assert!(original.lines().any(|line| line.trim() == include), "{original}");
    let lines =
        original.lines().map(|line| if line.trim() == include { stack.into() } else { format!("{line}\n") });
    lines.collect()
}
