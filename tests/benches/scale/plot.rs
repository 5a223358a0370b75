//! docs/scale.svg.

use backupcodes_tests::bench::plot::{self, Area, chart, legend, marks};
use plotters::prelude::*;

pub(crate) fn draw(times: &[(u32, f64)], memory: &[(u32, f64)]) {
    plot::draw("scale.svg", (900, 360), |area| {
        let (left, right) = area.split_horizontally(450);
        draw_times(&left, times);
        draw_memory(&right, memory);
    });
}

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
    marks(&mut chart, &points, "measured");
    legend(&mut chart, SeriesLabelPosition::UpperLeft);
}

fn draw_memory(area: &Area<'_>, memory: &[(u32, f64)]) {
    let points: Vec<_> = memory.iter().map(|&(users, peak)| (f64::from(users), peak)).collect();
    let most = points.iter().map(|&(_, peak)| peak).fold(0.0, f64::max);
    let axes = ["users of one run", "peak memory of generate (MiB)"];
    let ranges = ((10.0..4000.0).log_scale(), 0.0..(most * 1.6).ceil());
    let mut chart = chart(area, "Memory of generate, memory_kib = 64", axes, ranges);
    marks(&mut chart, &points, "measured");
    legend(&mut chart, SeriesLabelPosition::LowerLeft);
}
