//! docs/scale.svg. What differs, differs in shape and not in colour.

use std::path::Path;

use backupcodes_tests::bench::machine;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

pub(crate) fn draw(times: &[(u32, f64)], memory: &[(u32, f64)]) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    // What is written to the sandbox's copy of /home vanishes with it.
    let folder = if machine::file_system(&docs) == "overlay" { Path::new("/tmp") } else { &docs };
    let file = folder.join("scale.svg");
    let root = SVGBackend::new(&file, (900, 360)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let (left, right) = root.split_horizontally(450);
    draw_times(&left, times);
    draw_memory(&right, memory);
    root.present().unwrap();
    println!("\nThe plot is in {}", file.display());
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn draw_times(area: &Area<'_>, times: &[(u32, f64)]) {
    let points: Vec<_> = times.iter().map(|&(sets, seconds)| (f64::from(sets), seconds)).collect();
    let axes = ["sets on the host", "time of status (s)"];
    let ranges = ((500.0..200_000.0).log_scale(), (0.003..10.0).log_scale());
    let mut chart = chart(area, "Time of status", axes, ranges);
    let per_set = points[0].1 / points[0].0;
    let linear = [500.0, 200_000.0].map(|sets| (sets, per_set * sets));
    let dashed = DashedLineSeries::new(linear, 6, 5, BLACK.into());
    let dashed = chart.draw_series(dashed).unwrap();
    dashed.label("linear").legend(|(x, y)| {
        let dashes = [(0, 6), (11, 17), (22, 28)].map(|(from, to)| [(x + from, y), (x + to, y)]);
        PathElement::new(dashes.concat(), BLACK)
    });
    marks(&mut chart, &points);
    legend(&mut chart, SeriesLabelPosition::UpperLeft);
}

fn draw_memory(area: &Area<'_>, memory: &[(u32, f64)]) {
    let points: Vec<_> = memory.iter().map(|&(users, peak)| (f64::from(users), peak)).collect();
    let most = points.iter().map(|&(_, peak)| peak).fold(0.0, f64::max);
    let axes = ["users of one run", "peak memory of generate (MiB)"];
    let ranges = ((10.0..4000.0).log_scale(), 0.0..(most * 1.6).ceil());
    let mut chart = chart(area, "Memory of generate, memory_kib = 64", axes, ranges);
    marks(&mut chart, &points);
    legend(&mut chart, SeriesLabelPosition::LowerLeft);
}

fn chart<'a, 'b, X, Y>(
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
fn marks<X, Y>(chart: &mut Chart<'_, '_, X, Y>, points: &[(f64, f64)])
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart.draw_series(LineSeries::new(points.to_vec(), BLACK)).unwrap();
    let dots = points.iter().map(|&point| Circle::new(point, 4, BLACK.filled()));
    chart
        .draw_series(dots)
        .unwrap()
        .label("measured")
        .legend(|(x, y)| Circle::new((x + 14, y), 4, BLACK.filled()));
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>, place: SeriesLabelPosition)
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
