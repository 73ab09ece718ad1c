//! Plots for the pages of `docs`, as SVG files.
//!
//! A page may be shown on white or on near black, so the background is transparent. Every colour here has a contrast of
//! at least 3 to 1 with both, and text has more than 4 to 1.

use plotters::coord::Shift;
pub(crate) use plotters::prelude::RGBColor;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

pub(crate) const BLUE: RGBColor = RGBColor(47, 129, 247);
pub(crate) const ORANGE: RGBColor = RGBColor(219, 109, 40);
pub(crate) const GREEN: RGBColor = RGBColor(45, 164, 78);
pub(crate) const GREY: RGBColor = RGBColor(121, 121, 121);

const SIZE: (u32, u32) = (880, 440);
/// About the width of a letter in the legend, in tenths of a pixel.
const LETTER: i32 = 72;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One line of a plot.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) colour: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) labels: Side,
}

/// The place of a label beside its point.
pub(crate) enum Side {
    Above,
    Below,
}

/// Failed calls of one kind of caller.
#[derive(Clone)]
pub(crate) struct Failures {
    pub(crate) caller: &'static str,
    pub(crate) colour: RGBColor,
    pub(crate) calls: usize,
    /// Seconds from the fault to each failed call.
    pub(crate) failed: Vec<f64>,
}

fn text(size: u32) -> TextStyle<'static> {
    // The backend divides the size by 1.24.
    ("sans-serif", f64::from(size) * 1.24)
        .into_text_style(&SIZE)
        .color(&GREY)
}

/// Draws a plot below a title and a legend, and writes it to a file, given by its path below the root of the project.
fn draw(path: &str, title: &str, legend: &[(String, RGBColor)], plot: impl FnOnce(&Area<'_>)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.draw_text(title, &text(18), (16, 12)).unwrap();
    let mut left = 16;
    for (name, colour) in legend {
        let swatch = Rectangle::new([(left, 45), (left + 18, 55)], colour.filled());
        area.draw(&swatch).unwrap();
        area.draw_text(name, &text(14), (left + 25, 43)).unwrap();
        left += 25 + 24 + LETTER * name.chars().count() as i32 / 10;
    }
    plot(&area.margin(70, 10, 10, 24));
    area.present().unwrap();
}

/// Draws times in nanoseconds over a number, both on logarithmic axes.
pub(crate) fn times(path: &str, title: &str, over: &str, lines: &[Line]) {
    let legend: Vec<_> = lines
        .iter()
        .map(|line| (line.name.to_owned(), line.colour))
        .collect();
    let points: Vec<(f64, f64)> = lines.iter().flat_map(|line| line.points.clone()).collect();
    let right = largest(points.iter().map(|point| point.0));
    let top = 10_f64.powf(largest(points.iter().map(|point| point.1)).log10().ceil());
    draw(path, title, &legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(50)
            .y_label_area_size(80)
            .build_cartesian_2d((0.5..2.0 * right).log_scale(), (10.0..top).log_scale())
            .unwrap();
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc(over)
            .y_desc("time, logarithmic")
            .x_label_formatter(&|x| grouped(*x as u64))
            .y_label_formatter(&|y| duration(*y))
            .label_style(text(14))
            .axis_desc_style(text(14))
            .axis_style(GREY)
            .draw()
            .unwrap();
        for line in lines {
            let path = LineSeries::new(line.points.clone(), line.colour.stroke_width(3));
            chart.draw_series(path).unwrap();
            let dots = line.points.iter();
            let dots = dots.map(|at| Circle::new(*at, 5, line.colour.filled()));
            chart.draw_series(dots).unwrap();
            let (offset, side) = match line.labels {
                Side::Above => ((0, -9), VPos::Bottom),
                Side::Below => ((0, 9), VPos::Top),
            };
            let style = text(13).pos(Pos::new(HPos::Center, side));
            let labels = line
                .points
                .iter()
                .map(|at| EmptyElement::at(*at) + Text::new(duration(at.1), offset, style.clone()));
            chart.draw_series(labels).unwrap();
        }
    });
}

/// Draws how many calls failed in each half second around a fault at the second 0, on an axis that is logarithmic
/// above 1. The events are times and their names.
pub(crate) fn failures(
    path: &str,
    title: &str,
    seconds: std::ops::Range<f64>,
    events: &[(f64, &str)],
    callers: &[Failures],
) {
    const BUCKET: f64 = 0.5;
    let legend: Vec<_> = callers
        .iter()
        .map(|one| {
            let (failed, calls) = (grouped(one.failed.len() as u64), grouped(one.calls as u64));
            (
                format!("{}: {failed} of {calls} failed", one.caller),
                one.colour,
            )
        })
        .collect();
    let lines = [0.0, 1.0, 10.0, 100.0, 1_000.0].map(height).to_vec();
    draw(path, title, &legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(50)
            .y_label_area_size(80)
            .build_cartesian_2d(seconds.clone(), (0..height(2_000.0)).with_key_points(lines))
            .unwrap();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(12)
            .x_desc("seconds since the instance was killed")
            .y_desc("failed calls in each 0.5 s, logarithmic")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| grouped((f64::from(*y) / 1e5).exp_m1().round() as u64))
            .label_style(text(14))
            .axis_desc_style(text(14))
            .axis_style(GREY)
            .bold_line_style(GREY.mix(0.35))
            .light_line_style(TRANSPARENT)
            .draw()
            .unwrap();
        let width = 0.9 * BUCKET / callers.len() as f64;
        for (nth, caller) in callers.iter().enumerate() {
            let bars = (0..).map(|n| seconds.start + BUCKET * f64::from(n));
            let bars = bars.take_while(|begin| *begin < seconds.end).map(|begin| {
                let within = |at: &&f64| (begin..begin + BUCKET).contains(*at);
                let count = caller.failed.iter().filter(within).count() as f64;
                let left = begin + 0.05 * BUCKET + width * nth as f64;
                let corners = [(left, 0), (left + width, height(count))];
                Rectangle::new(corners, caller.colour.filled())
            });
            chart.draw_series(bars).unwrap();
        }
        for (at, name) in events {
            let line = [(*at, 0), (*at, height(2_000.0))];
            let line = PathElement::new(line, GREY.stroke_width(1));
            chart.draw_series([line]).unwrap();
            // On the side with more room.
            let (offset, side) = if *at > (seconds.start + seconds.end) / 2.0 {
                (-6, HPos::Right)
            } else {
                (6, HPos::Left)
            };
            let label = text(14).pos(Pos::new(side, VPos::Top));
            let name = Text::new((*name).to_owned(), (offset, 2), label);
            let name = EmptyElement::at((*at, height(2_000.0))) + name;
            chart.draw_series([name]).unwrap();
        }
    });
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(1.0, f64::max)
}

/// Returns the height of a count on the logarithmic axis. It is a whole number, because the crate has no other axis on
/// which the marks can be chosen.
fn height(count: f64) -> i32 {
    (1e5 * count.ln_1p()) as i32
}

/// Returns a whole number with a comma before each three digits: 10,000.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn duration(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.0} ns"),
        ..1e4 => format!("{:.1} µs", nanos / 1e3).replace(".0", ""),
        ..1e6 => format!("{:.0} µs", nanos / 1e3),
        _ => format!("{:.0} ms", nanos / 1e6),
    }
}
