//! The PAM stacks and settings that README shows, so that tests run them byte for byte.

/// The fenced block behind `<!-- tested: NAME -->` in README.md.
pub fn block(name: &str) -> String {
    let readme = include_str!("../../README.md");
    let marker = format!("<!-- tested: {name} -->");
    let (_, behind) = readme.split_once(&marker).unwrap_or_else(|| panic!("README has no block {name:?}"));
    let (fence, fenced) = behind.trim_start().split_once('\n').expect("a block");
    assert!(fence.starts_with("```"), "no fenced block behind {marker}");
    fenced.split_once("```").expect("the end of the block").0.into()
}

/// Debian's PAM file of a service with its line `@include common-auth` replaced by README's block, as README says.
pub fn with_stack(original: &str, name: &str) -> String {
    let include = "@include common-auth";
    assert!(original.lines().any(|line| line.trim() == include), "{original}");
    let lines =
        original.lines().map(|line| if line.trim() == include { block(name) } else { format!("{line}\n") });
    lines.collect()
}
