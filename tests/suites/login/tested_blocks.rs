//! A test runs every stack and setting that README and the guide show as tested, and every link of a page leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use backupcodes_tests::readme::{FEDORA, block, names, names_in};

#[test]
fn every_block_of_the_guide_is_used_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = list(&folder.join("suites")).flat_map(|suite| list(&suite).collect::<Vec<_>>());
    let files = files.chain([folder.join("system/units")]);
    let files = files.filter(|file| file.is_file());
    let tests: Vec<String> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    // The name, where it is given to a machine or a scene, or a machine that is booted: `nullok` is an option as well.
    let is_used = |name: &str| {
        let quoted = format!("\"{name}\"");
        tests.iter().flat_map(|test| test.lines()).any(|line| {
            let is_given = line.contains("machine") || line.contains("scene");
            is_given && line.contains(&quoted) || line.contains(&format!("(readme_block {name})"))
        })
    };
    let unused: Vec<_> = names().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "no test runs the blocks {unused:?}");
    assert!(names().count() >= 10 && names().all(|name| !block(name).is_empty()));
    let on_disk: BTreeSet<String> = pages()
        .into_iter()
        .flat_map(|page| {
            let text = fs::read_to_string(page).unwrap();
            let marked =
                text.lines().filter_map(|line| line.strip_prefix("<!-- tested: ")?.strip_suffix(" -->"));
            marked.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let known = names().chain(names_in(FEDORA)).map(str::to_owned).collect();
    assert_eq!(on_disk, known);
}

#[test]
fn every_stack_in_the_manual_is_one_that_is_tested() {
    let root = root();
    let mut compared = 0;
    for page in ["pam_backupcodes.8", "backupcodes-broker.8"] {
        let text = fs::read_to_string(root.join("man").join(page)).unwrap();
        for (before, example) in manual_pages::examples(&text) {
            // The comment in front of it says where it is from.
            if let Some(name) = before.strip_prefix(".\\\" Guide: ") {
                assert_eq!(example, block(name), "{page}: {name}");
            } else if let Some(file) = before.strip_prefix(".\\\" File: ") {
                let shipped = fs::read_to_string(root.join(file)).unwrap();
                let lines = shipped.lines().filter(|line| !line.starts_with('#'));
                assert!(example.lines().eq(lines), "{page}: {file}");
            } else {
                assert!(!example.contains("pam_") && !example.contains("=yes"), "{page}: {example}");
                continue;
            }
            compared += 1;
        }
    }
    assert!(compared >= 14, "{compared}");
}

#[test]
fn every_link_leads_to_a_heading_or_page_that_packages_have_as_well() {
    let (root, mut followed) = (root(), 0);
    let contributing = root.join("CONTRIBUTING.md");
    for page in pages().into_iter().chain([contributing.clone()]) {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let shown = format!("{}: {link}", page.display());
            // Those of docs/design may lead to the sources as well.
            if page.starts_with(root.join("docs/design")) && path.starts_with("../../") {
                continue;
            }
            let target = target.canonicalize().unwrap_or_else(|error| panic!("{shown}: {error}"));
            let is_packed =
                ["README.md", "SECURITY.md", "docs"].iter().any(|it| target.starts_with(root.join(it)));
            assert!(is_packed || page == contributing, "{shown} leads to no page of a package");
            assert!(
                heading.is_empty() || headings(&target).any(|known| known == heading),
                "{shown}: no heading"
            );
            followed += 1;
        }
    }
    assert!(followed >= 50, "{followed}");
}

/// The pages that packages have.
fn pages() -> Vec<PathBuf> {
    let mut pages = ["README.md", "SECURITY.md"].map(|name| root().join(name)).to_vec();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The headings of a page as links name them.
fn headings(page: &Path) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(page).unwrap();
    let headings: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            words.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
        })
        .collect();
    headings.into_iter()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
