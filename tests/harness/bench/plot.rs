//! Plots in docs/. What differs, differs in shape and not in colour.

use std::path::{Path, PathBuf};

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::machine;

pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// Draws a file of docs/ by this name, with so many points to the right and down.
pub fn draw(name: &str, size: (u32, u32), draw: impl FnOnce(&Area<'_>)) {
    let file = folder().join(name);
    let area = SVGBackend::new(&file, size).into_drawing_area();
    area.fill(&WHITE).unwrap();
    draw(&area);
    area.present().unwrap();
    println!("\nThe plot is in {}", file.display());
}

/// What is written to the sandbox's copy of /home vanishes with it.
fn folder() -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    if machine::file_system(&docs) == "overlay" { "/tmp".into() } else { docs }
}

/// Axes with their names, and a title.
pub fn chart<'a, 'b, X, Y>(
    area: &Area<'b>,
    title: &str,
    [x, y]: [&str; 2],
    ranges: (X, Y),
) -> Chart<'a, 'b, X::CoordDescType, Y::CoordDescType>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(ranges.0, ranges.1)
        .unwrap();
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(BLACK.mix(0.15)).x_desc(x).y_desc(y);
    mesh.x_label_formatter(&|count| thousands(*count)).y_label_formatter(&|value| format!("{value}"));
    mesh.label_style(("sans-serif", 13)).axis_desc_style(("sans-serif", 14)).draw().unwrap();
    chart
}

/// What was measured: dots, and a line from each to the next.
pub fn marks<X, Y>(chart: &mut Chart<'_, '_, X, Y>, points: &[(f64, f64)], label: &str)
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart.draw_series(LineSeries::new(points.to_vec(), BLACK)).unwrap();
    let dots = points.iter().map(|&point| Circle::new(point, 4, BLACK.filled()));
    chart
        .draw_series(dots)
        .unwrap()
        .label(label)
        .legend(|(x, y)| Circle::new((x + 14, y), 4, BLACK.filled()));
}

/// The legend, at a place where nothing is.
pub fn legend<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>, place: SeriesLabelPosition)
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let mut labels = chart.configure_series_labels();
    labels.position(place).background_style(WHITE).border_style(BLACK.mix(0.3));
    labels.label_font(("sans-serif", 13)).draw().unwrap();
}

/// 100,000 for 100000.
fn thousands(count: f64) -> String {
    let digits = format!("{count}");
    let at = digits.len().saturating_sub(3);
    if at == 0 { digits } else { format!("{},{}", &digits[..at], &digits[at..]) }
}
