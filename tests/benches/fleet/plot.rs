//! docs/fleet.svg.

use backupcodes_tests::bench::plot::{self, Area, chart, legend, marks};
use plotters::prelude::*;

use super::hosts::Latency;

pub(crate) fn draw(latencies: &[Latency]) {
    plot::draw("fleet.svg", (560, 380), |area| draw_latency(area, latencies));
}

fn draw_latency(area: &Area<'_>, latencies: &[Latency]) {
    let points = |of: fn(&Latency) -> f64| {
        latencies.iter().map(|latency| (latency.hosts as f64, of(latency))).collect::<Vec<_>>()
    };
    let (median, slow) = (points(|latency| latency.median), points(|latency| latency.slow));
    let most = slow.iter().map(|&(_, slow)| slow).fold(0.0, f64::max);
    let axes = ["hosts that spend codes all the time", "time of one spend (ms)"];
    let ranges = ((0.8..1300.0).log_scale(), (1.0..most * 2.0).log_scale());
    let mut chart = chart(area, "Latency of a fleet on one machine", axes, ranges);
    marks(&mut chart, &median, "median");
    let crosses = slow.iter().map(|&point| Cross::new(point, 5, BLACK.stroke_width(2)));
    chart.draw_series(LineSeries::new(slow.clone(), BLACK.mix(0.4))).unwrap();
    let crosses = chart.draw_series(crosses).unwrap().label("99 of 100 are faster");
    crosses.legend(|(x, y)| Cross::new((x + 14, y), 5, BLACK.stroke_width(2)));
    legend(&mut chart, SeriesLabelPosition::UpperLeft);
}
