//! Charts as SVG, in colours that can be read on a light and on a dark page.

use std::path::Path;

use mobile_host::calibration::{Calibration, Point};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::Failure;
use crate::numbers::Spread;

const SIZE: (u32, u32) = (900, 520);
const INK: RGBColor = RGBColor(0x76, 0x76, 0x76);
const SERIES: [RGBColor; 5] = [
    RGBColor(0x8a, 0x8f, 0x98),
    RGBColor(0xd9, 0x8b, 0x1f),
    RGBColor(0x2f, 0x86, 0xd6),
    RGBColor(0x9a, 0x6f, 0xd0),
    RGBColor(0x2b, 0xa0, 0x6a),
];
const WARN: RGBColor = RGBColor(0xd6, 0x4b, 0x4b);

/// Bars that belong together.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) bars: Vec<Bar>,
}

/// One bar, with its least and its greatest value.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) series: String,
    pub(crate) value: Spread,
}

/// Writes a chart.
pub(crate) fn write(path: &Path, svg: &str) -> Result<(), Failure> {
    std::fs::write(path, svg)
        .map_err(|e| Failure::Output(std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))))
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn centred(size: i32) -> TextStyle<'static> {
    text(size).pos(Pos::new(HPos::Center, VPos::Bottom))
}

/// Draws on a canvas without background.
fn drawn(
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String, String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    draw(&area).and_then(|()| area.present().map_err(Into::into)).map_err(|e| format!("cannot draw the chart: {e}"))?;
    drop(area);
    Ok(svg)
}

/// Decoding speed by policy; a line from the slowest to the fastest run stands in every bar.
pub(crate) fn bars(title: &str, groups: &[Group]) -> Result<String, String> {
    drawn(|area| {
        // Room above the bars for the legend.
        let most = groups.iter().flat_map(|g| &g.bars).map(|b| b.value.max).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(title, text(20))
            .margin(16)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..most * 1.32)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc("decoding, tokens per second")
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .label_style(text(14))
            .draw()?;
        let mut series: Vec<&str> = Vec::new();
        for bar in groups.iter().flat_map(|g| &g.bars) {
            if !series.contains(&bar.series.as_str()) {
                series.push(&bar.series);
            }
        }
        let width = 0.84 / series.len() as f64;
        for (place, &name) in series.iter().enumerate() {
            let colour = SERIES[place % SERIES.len()];
            let left = |group: usize| group as f64 + 0.08 + place as f64 * width;
            let mine =
                groups.iter().enumerate().filter_map(|(n, g)| Some((n, g.bars.iter().find(|b| b.series == name)?)));
            let mine: Vec<(f64, Spread)> = mine.map(|(group, bar)| (left(group), bar.value)).collect();
            chart
                .draw_series(mine.iter().map(|(x, v)| {
                    Rectangle::new([(x + width * 0.06, 0.0), (x + width * 0.94, v.median)], colour.filled())
                }))?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
            chart.draw_series(mine.iter().map(|(x, v)| {
                let middle = x + width / 2.0;
                PathElement::new([(middle, v.min), (middle, v.max)], INK.stroke_width(2))
            }))?;
            chart.draw_series(mine.iter().map(|(x, v)| {
                let label = format!("{:.*}", if v.median < 100.0 { 1 } else { 0 }, v.median);
                Text::new(label, (x + width / 2.0, v.max + most * 0.012), centred(13))
            }))?;
        }
        let names = groups.iter().enumerate().map(|(n, g)| {
            let below = text(14).pos(Pos::new(HPos::Center, VPos::Top));
            EmptyElement::at((n as f64 + 0.5, 0.0)) + Text::new(g.name.clone(), (0, 10), below)
        });
        chart.draw_series(names)?;
        legend(&mut chart, SeriesLabelPosition::UpperRight)
    })
}

/// Speed against quality, threshold by threshold.
pub(crate) fn curve(calibration: &Calibration) -> Result<String, String> {
    let growth = |p: &Point| (p.perplexity_ratio - 1.0) * 100.0;
    let points = &calibration.points;
    drawn(|area| {
        let bound = calibration.bound * 100.0;
        let (left, right) = range(points.iter().map(|p| p.speedup).chain([1.0]), 0.02);
        let (low, high) = range(points.iter().map(growth).chain([0.0, bound]), 0.1);
        let title = format!("{} on {}", calibration.key.model, calibration.key.device);
        let mut chart = ChartBuilder::on(area)
            .caption(title, text(20))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(left..right, low..high)?;
        chart
            .configure_mesh()
            .x_desc("decoding speed, in proportion to plain decoding")
            .y_desc("perplexity over that of all experts, %")
            .x_label_formatter(&|x| format!("{x:.2}×"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .axis_style(INK)
            .bold_line_style(INK.mix(0.2))
            .light_line_style(TRANSPARENT)
            .label_style(text(14))
            .draw()?;
        let line = |from, to, colour: RGBColor, width| PathElement::new([from, to], colour.stroke_width(width));
        chart
            .draw_series([line((left, bound), (right, bound), WARN, 1)])?
            .label(format!("bound of {bound}%"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], WARN.stroke_width(1)));
        chart
            .draw_series([line((1.0, low), (1.0, high), SERIES[0], 1)])?
            .label("plain decoding")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], SERIES[0].stroke_width(1)));
        let place = |p: &Point| (p.speedup, growth(p));
        chart
            .draw_series([PathElement::new(points.iter().map(place).collect::<Vec<_>>(), SERIES[2].stroke_width(1))])?;
        chart
            .draw_series(points.iter().map(|p| Circle::new(place(p), 4, SERIES[2].filled())))?
            .label("MoBiLE at γ")
            .legend(|(x, y)| Circle::new((x + 7, y), 4, SERIES[2].filled()));
        let best = points.iter().filter(|p| p.gamma == calibration.gamma);
        chart
            .draw_series(best.map(|p| Circle::new(place(p), 9, SERIES[4].stroke_width(3))))?
            .label(format!("recommended: γ = {}", calibration.gamma))
            .legend(|(x, y)| Circle::new((x + 7, y), 6, SERIES[4].stroke_width(3)));
        chart.draw_series(
            points.iter().map(|p| EmptyElement::at(place(p)) + Text::new(p.gamma.to_string(), (0, -11), centred(13))),
        )?;
        legend(&mut chart, SeriesLabelPosition::UpperLeft)
    })
}

/// The ends of `values` with a margin: a twelfth of their distance, `least` at least.
fn range(values: impl Iterator<Item = f64> + Clone, least: f64) -> (f64, f64) {
    let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
    let margin = ((high - low) / 12.0).max(least);
    (low - margin, high + margin)
}

fn legend<'a>(
    chart: &mut ChartContext<
        'a,
        SVGBackend<'a>,
        Cartesian2d<impl Ranged<ValueType = f64>, impl Ranged<ValueType = f64>>,
    >,
    position: SeriesLabelPosition,
) -> Result<(), Box<dyn std::error::Error>> {
    chart.configure_series_labels().position(position).label_font(text(14)).margin(12).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobile_engine::CONFIDENCE_BINS;
    use mobile_host::calibration::Key;

    #[test]
    fn bars_are_named_and_have_a_unit() {
        let bar = |series: &str, median| Bar {
            series: series.to_owned(),
            value: Spread { median, min: median * 0.9, max: median * 1.1 },
        };
        let group = Group { name: "512 prompt tokens".to_owned(), bars: vec![bar("full", 40.0), bar("auto", 44.0)] };
        let svg = bars("tiny on cpu", &[group]).expect("a chart");
        for part in ["tiny on cpu", "512 prompt tokens", "tokens per second", "full", "auto", "44.0", "</svg>"] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn a_curve_marks_the_recommended_threshold() {
        let point = |gamma, ratio, speedup| Point {
            gamma,
            perplexity_ratio: ratio,
            perplexity_ratio_error: 0.001,
            tokens_per_second: 10.0,
            speedup,
            fallback_rate: 0.1,
            experts_used: 0.6,
        };
        let key = Key {
            model: "tiny".to_owned(),
            weight_bytes: 1,
            compute: "f32".to_owned(),
            device: "cpu".to_owned(),
            renormalize: false,
        };
        let points = vec![point(0.0, 1.08, 1.5), point(0.7, 1.008, 1.2), point(1.01, 1.0, 0.7)];
        let confidences = [0; CONFIDENCE_BINS];
        let found =
            Calibration { key, gamma: 0.7, bound: 0.01, complete: true, measured: 0, tokens: 0, confidences, points };
        let svg = curve(&found).expect("a chart");
        for part in ["recommended: γ = 0.7", "bound of 1%", "in proportion to plain decoding", "1.01", "</svg>"] {
            assert!(svg.contains(part), "{part}");
        }
    }
}
