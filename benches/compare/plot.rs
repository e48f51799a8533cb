//! The pictures beside the reports, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::course::{BIN, Course, milliseconds, quantile};
use crate::load::Event;
use crate::results::Results;
use crate::rows::{Row, Section};
use crate::targets::short;
use crate::wire::Reply;

const ROW_HEIGHT: u32 = 26;
const HEADING: u32 = 60;
const LABELS: u32 = 560;
const PANEL: u32 = 420;
const OURS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(170, 170, 170);
const REFUSED: RGBColor = RGBColor(214, 39, 40);
const LIVEZ: RGBColor = RGBColor(44, 160, 44);
const METRICS: RGBColor = RGBColor(255, 127, 14);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What an axis says at a value.
#[allow(clippy::trivially_copy_pass_by_ref)] // As plotters hands it over.
fn tick(value: &f64) -> String {
    if *value == 0.0 { "0".to_owned() } else { short(*value) }
}

/// Throughput, from the least to the most round, and latency from p50 to p99, of every claim row.
pub fn claims(file: &Path, rows: &[Row], results: &Results) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| row.section == Section::Claims && results.samples.contains_key(&row.id))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let height = HEADING + ROW_HEIGHT * u32::try_from(rows.len())? + 30;
    let root = SVGBackend::new(file, (LABELS + 2 * PANEL, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (labels, panels) = root.split_horizontally(LABELS);
    let (throughput, latency) = panels.split_horizontally(PANEL);
    for (place, row) in rows.iter().enumerate() {
        let top = HEADING + ROW_HEIGHT * u32::try_from(place)?;
        let at = (8, i32::try_from(top)? + 8);
        let text = format!("{} · {} connections", row.what, row.connections);
        labels.draw(&Text::new(text, at, ("sans-serif", 15)))?;
    }
    let bars = |area: &Area<'_>, title: &str, values: &[[f64; 3]]| -> Result<()> {
        let most = values.iter().flatten().copied().fold(1.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(area)
            .margin_top(HEADING - 22)
            .margin_right(20)
            .caption(title, ("sans-serif", 17))
            .x_label_area_size(30)
            .build_cartesian_2d(0.0..most, rows.len() as f64..0.0)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(6)
            .x_label_formatter(&tick)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (place, ([low, value, high], row)) in values.iter().zip(&rows).enumerate() {
            let colour = if row.id.contains("onceguard") { OURS } else { OTHERS };
            let (top, middle, bottom) =
                (place as f64 + 0.2, place as f64 + 0.5, place as f64 + 0.8);
            chart.draw_series([Rectangle::new([(0.0, top), (*value, bottom)], colour.filled())])?;
            chart.draw_series([PathElement::new([(*low, middle), (*high, middle)], BLACK)])?;
        }
        Ok(())
    };
    let of = |row: &&Row, value: fn(&crate::bench::Sample) -> f64| {
        results.of(&row.id, value).map_or(0.0, |spread| spread.median)
    };
    let rates: Vec<_> = rows
        .iter()
        .filter_map(|row| results.of(&row.id, |sample| sample.per_second))
        .map(|spread| [spread.least, spread.median, spread.most])
        .collect();
    bars(&throughput, "claims per second; line: least to most", &rates)?;
    let latencies: Vec<_> = rows
        .iter()
        .map(|row| [of(row, |sample| sample.p50), of(row, |s| s.p50), of(row, |s| s.p99)])
        .collect();
    bars(&latency, "latency in ms: bar p50, line to p99", &latencies)?;
    root.present()?;
    Ok(())
}

/// What was accepted and refused over time, and how long that and the probes took.
pub fn course(file: &Path, title: &str, course: &Course) -> Result<()> {
    let root = SVGBackend::new(file, (1000, 760)).into_drawing_area();
    root.fill(&WHITE)?;
    let (rates, latencies) = root.split_vertically(380);
    let bins = course.bins();
    let seconds = |bin: usize| bin as f64 * BIN.as_secs_f64();
    let end = seconds(bins.len());
    let rate = |events: &[&Event], reply: Reply| {
        let count = events.iter().filter(|event| event.reply == reply).count();
        count as f64 / BIN.as_secs_f64()
    };
    let series = |reply: Reply| -> Vec<(f64, f64)> {
        bins.iter().enumerate().map(|(bin, events)| (seconds(bin), rate(events, reply))).collect()
    };
    let (done, refused) = (series(Reply::Done), series(Reply::Refused));
    let most =
        done.iter().chain(&refused).map(|(_, rate)| *rate).fold(course.mean_capacity(), f64::max);

    let mut chart = ChartBuilder::on(&rates)
        .caption(format!("four times too much, on {title}"), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .y_desc("requests a second")
        .y_label_formatter(&tick)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (name, colour, points) in [
        ("accepted", OURS, done),
        ("refused: 503 overloaded", REFUSED, refused),
        ("capacity", BLACK, vec![(0.0, course.mean_capacity()), (end, course.mean_capacity())]),
    ] {
        let line = chart.draw_series(LineSeries::new(points, &colour))?;
        line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 14))
        .border_style(OTHERS)
        .background_style(WHITE)
        .draw()?;

    let mut chart = ChartBuilder::on(&latencies)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, (0.1..5_000.0).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc("p99 latency in ms")
        .y_label_formatter(&|value| format!("{value}"))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    let p99 = |reply: Reply| -> Vec<(f64, f64)> {
        let of = |events: &Vec<&Event>| {
            quantile(events.iter().copied().filter(|event| event.reply == reply), 0.99)
        };
        let points = bins.iter().enumerate().map(|(bin, events)| (seconds(bin), of(events)));
        points.filter(|(_, latency)| latency.is_finite()).collect()
    };
    let probes = |path: &str| -> Vec<(f64, f64)> {
        let probes = course.probes.iter().filter(|probe| probe.path == path);
        probes.map(|probe| (probe.at.as_secs_f64(), milliseconds(probe.latency))).collect()
    };
    for (name, colour, points) in [
        ("accepted", OURS, p99(Reply::Done)),
        ("refused", REFUSED, p99(Reply::Refused)),
        ("each /livez", LIVEZ, probes("/livez")),
        ("each /metrics", METRICS, probes("/metrics")),
    ] {
        let line = chart.draw_series(LineSeries::new(points, &colour))?;
        line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 14))
        .border_style(OTHERS)
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}
