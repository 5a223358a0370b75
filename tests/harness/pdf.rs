//! A document as Chromium prints it, and what is on its pages.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use crate::machine::run;

/// A size of paper, as CSS names it.
#[derive(Clone, Copy, Debug)]
pub enum Paper {
    A4,
    Letter,
}

/// What was printed.
pub struct Pdf {
    pub pages: Vec<Page>,
    /// The names of its fonts, which are in the file.
    pub fonts: Vec<String>,
}

/// A page, with all lengths in points.
pub struct Page {
    pub width: f64,
    pub height: f64,
    /// In the order of the document.
    pub words: Vec<Word>,
    ink: Ink,
}

/// A word and the room that its font takes.
#[derive(Debug)]
pub struct Word {
    pub text: String,
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

/// Where a printer without colours leaves ink: in the dark dots, row by row.
struct Ink {
    width: usize,
    dots: Vec<bool>,
}

/// Points in a millimetre.
pub const MM: f64 = 72.0 / 25.4;
/// Dots in a point.
const DOTS: usize = 2;
/// Ascent and descent of DejaVu Sans Mono, and the advance of each of its characters, in its size.
const LINE: f64 = 1.164;
const ADVANCE: f64 = 0.602;

/// Prints a document on paper of this size. Chromium's home and profile lie in `folder`.
pub fn print(folder: &Path, html: &str, paper: Paper) -> Pdf {
    let folder = tempfile::Builder::new().prefix("print.").tempdir_in(folder).unwrap();
    let (html_file, pdf_file) = (folder.path().join("sheet.html"), folder.path().join("sheet.pdf"));
    let size = format!("@page {{ size: {paper:?} }}\n</style>");
    assert_eq!(html.matches("</style>").count(), 1);
    fs::write(&html_file, html.replace("</style>", &size)).unwrap();
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]);
    chromium.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    chromium.args(["--no-pdf-header-footer", &format!("--print-to-pdf={}", pdf_file.display())]);
    chromium.arg(format!("file://{}", html_file.display())).env("HOME", folder.path());
    run(&mut chromium, "");
    Pdf::read(&pdf_file)
}

impl Pdf {
    fn read(file: &Path) -> Self {
        let boxes = run(Command::new("pdftotext").args(["-raw", "-bbox"]).arg(file).arg("-"), "");
        let mut pages: Vec<Page> = Vec::new();
        for line in boxes.lines() {
            if line.trim().starts_with("<page ") {
                let ink = Ink::read(file, pages.len() + 1);
                let [width, height] = ["width", "height"].map(|name| attribute(line, name));
                pages.push(Page { width, height, words: Vec::new(), ink });
            }
            if line.trim().starts_with("<word ") {
                pages.last_mut().unwrap().words.push(Word::read(line));
            }
        }
        let fonts = run(Command::new("pdffonts").arg(file), "");
        let fonts = fonts.lines().skip(2).map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // NAME TYPE… ENCODING EMBEDDED SUBSET UNICODE OBJECT GENERATION
            assert_eq!(fields[fields.len() - 5], "yes", "embedded: {line}");
            fields[0].into()
        });
        Self { pages, fonts: fonts.collect() }
    }

    /// All words, with one space between two.
    pub fn text(&self) -> String {
        let words = self.pages.iter().flat_map(|page| &page.words).map(|word| word.text.as_str());
        words.collect::<Vec<_>>().join(" ")
    }
}

impl Page {
    /// Where the code behind its number stands on the page, which may be in two lines.
    pub fn code(&self, number: usize, code: &str) -> Vec<Range<usize>> {
        let words = &self.words;
        let is_numbered = |at: usize| words[..at].last().is_some_and(|word| word.text == number.to_string());
        let ends = |at: usize| {
            (at + 1..=words.len().min(at + 2))
                .find(|&end| words[at..end].iter().map(|word| word.text.as_str()).collect::<String>() == code)
        };
        (0..words.len()).filter(|&at| is_numbered(at)).filter_map(|at| Some(at..ends(at)?)).collect()
    }

    /// Nothing stands nearer to an edge of the paper than this.
    pub fn assert_margin(&self, margin: f64) {
        for word in &self.words {
            let is_inside = word.left >= margin
                && word.top >= margin
                && word.right <= self.width - margin
                && word.bottom <= self.height - margin;
            assert!(is_inside, "{word:?} on {} x {}", self.width, self.height);
        }
    }

    /// Whether a printer without colours shows all of a word: each of its characters is dark somewhere.
    pub fn is_black(&self, word: &Word) -> bool {
        let count = word.text.chars().count();
        let advance = (word.right - word.left) / count as f64;
        let starts = (0..count).map(|at| word.left + advance * at as f64);
        let rows = dots(word.top)..dots(word.bottom);
        starts.into_iter().all(|start| {
            let mut columns = dots(start)..=dots(start + advance);
            columns.any(|column| self.ink.in_column(column, rows.clone()).next().is_some())
        })
    }

    /// Width and height of the card, whose borders are the leftmost and the rightmost ink; its fold is in the middle.
    pub fn card(&self) -> (f64, f64) {
        let rows = 0..self.ink.dots.len() / self.ink.width;
        let of = |column: usize| self.ink.in_column(column, rows.clone());
        let mut inked = (0..self.ink.width).filter(|&column| of(column).next().is_some());
        let (left, right) = (inked.next().unwrap(), inked.next_back().unwrap());
        let (top, bottom) = (of(left).next().unwrap(), of(left).next_back().unwrap());
        let middle = (left + right) / 2;
        let dotted = (middle - 2..=middle + 2).map(|column| self.ink.in_column(column, top..bottom).count());
        assert!(dotted.max().unwrap() > (bottom - top) / 4, "no fold in the middle");
        (points(right + 1 - left), points(bottom + 1 - top))
    }
}

impl Word {
    fn read(line: &str) -> Self {
        let [left, top, right, bottom] = ["xMin", "yMin", "xMax", "yMax"].map(|name| attribute(line, name));
        let text = line.split(['<', '>']).nth(2).unwrap().into();
        Self { text, left, top, right, bottom }
    }

    /// The size of a font with DejaVu's height.
    pub fn size(&self) -> f64 {
        (self.bottom - self.top) / LINE
    }

    /// Whether the word is as wide as it is in DejaVu Sans Mono of its size.
    pub fn is_monospaced(&self) -> bool {
        let width = self.text.chars().count() as f64 * ADVANCE * self.size();
        (self.right - self.left - width).abs() < 0.01 * width
    }

    /// Whether capitals and digits of both touch: above them is room for accents, below them for descenders.
    pub fn touches(&self, other: &Self) -> bool {
        let [(top, bottom), (other_top, other_bottom)] = [self, other].map(|word| {
            let height = word.bottom - word.top;
            (word.top + 0.15 * height, word.bottom - 0.15 * height)
        });
        self.left < other.right && other.left < self.right && top < other_bottom && other_top < bottom
    }
}

impl Ink {
    fn read(file: &Path, page: usize) -> Self {
        let image = file.with_extension("pgm");
        let (resolution, page) = ((72 * DOTS).to_string(), page.to_string());
        let mut painter = Command::new("pdftoppm");
        painter.args(["-gray", "-singlefile", "-r", &resolution, "-f", &page]);
        run(painter.arg(file).arg(file.with_extension("")), "");
        let image = fs::read(image).unwrap();
        // P5 WIDTH HEIGHT MAXIMUM, and a byte for each dot.
        let header: Vec<_> = image.split(u8::is_ascii_whitespace).take(4).collect();
        let width = std::str::from_utf8(header[1]).unwrap().parse().unwrap();
        let length: usize = header.iter().map(|field| field.len() + 1).sum();
        Self { width, dots: image[length..].iter().map(|&grey| grey < 128).collect() }
    }

    /// The rows with ink in this column.
    fn in_column(&self, column: usize, rows: Range<usize>) -> impl DoubleEndedIterator<Item = usize> + '_ {
        rows.filter(move |row| self.dots[row * self.width + column])
    }
}

fn attribute(line: &str, name: &str) -> f64 {
    let value = line.split(&format!("{name}=\"")).nth(1).unwrap();
    value.split('"').next().unwrap().parse().unwrap()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn dots(points: f64) -> usize {
    (points * DOTS as f64) as usize
}

fn points(dots: usize) -> f64 {
    dots as f64 / DOTS as f64
}
