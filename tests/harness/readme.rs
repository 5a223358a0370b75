//! The PAM stacks and settings that README and the guide show, so that tests run them byte for byte.

/// The pages with tested blocks. A test compares them with the pages on disk.
const PAGES: [&str; 4] = [
    include_str!("../../README.md"),
    include_str!("../../docs/guide/stacks.md"),
    include_str!("../../docs/guide/lockers.md"),
    include_str!("../../docs/guide/renewal.md"),
];
pub const FEDORA: &str = include_str!("../../docs/guide/fedora.md");
const MARKER: [&str; 2] = ["<!-- tested: ", " -->"];

/// The names of all blocks, without those of [`FEDORA`].
pub fn names() -> impl Iterator<Item = &'static str> {
    PAGES.into_iter().flat_map(names_in)
}

pub fn names_in(page: &'static str) -> impl Iterator<Item = &'static str> {
    let [start, end] = MARKER;
    page.split(start).skip(1).map(move |behind| behind.split_once(end).expect("the marker's end").0)
}

/// The fenced block after `<!-- tested: NAME -->`, which is the same on each page that has it.
pub fn block(name: &str) -> String {
    let pages = PAGES.into_iter().filter(|page| names_in(page).any(|known| known == name));
    let mut blocks: Vec<_> = pages.map(|page| block_in(page, name)).collect();
    blocks.dedup();
    assert_eq!(blocks.len(), 1, "the blocks {name:?}: {blocks:?}");
    blocks.remove(0)
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

/// Debian's PAM file of a service with the line that includes another one replaced by a stack, as the guide says.
pub fn with_stack(original: &str, stack: &str) -> String {
    let is_include = |line: &str| INCLUDES.contains(&line.trim());
    assert!(original.lines().any(is_include), "{original}");
    let lines =
        original.lines().map(|line| if is_include(line) { stack.into() } else { format!("{line}\n") });
    lines.collect()
}
