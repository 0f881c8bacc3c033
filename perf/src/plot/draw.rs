//! Charts as SVG. The text in them stays text, so no font is needed to make them.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

/// Pixels.
const WIDTH: u32 = 1000;
/// What the legend takes of it.
const LEGEND: i32 = 210;
/// Height of a line of the legend.
const LEGEND_LINE: i32 = 20;
const HEIGHT: u32 = 520;
/// Height of one bar with its gap, and of everything around the bars.
const BAR: u32 = 34;
const AROUND_BARS: u32 = 110;
/// Width of the names of bars.
const NAMES: u32 = 330;
/// Colours that most people can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
    RGBColor(170, 150, 0),
    RGBColor(120, 60, 160),
    RGBColor(150, 80, 40),
    RGBColor(0, 70, 60),
    RGBColor(230, 90, 120),
];
const FONT: &str = "sans-serif";

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    /// In the order of x.
    pub(super) points: Vec<(f64, f64)>,
}

/// One bar, of parts that add up.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<(String, f64)>,
}

/// What to draw.
pub(super) enum Chart {
    /// Lines over a logarithmic x.
    Lines {
        title: String,
        x: String,
        y: String,
        logarithmic_y: bool,
        /// Where x has names; powers of ten, if empty.
        ticks: Vec<(f64, String)>,
        lines: Vec<Line>,
    },
    /// Bars one below the other.
    Bars {
        title: String,
        unit: String,
        bars: Vec<Bar>,
    },
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

impl Chart {
    /// The picture.
    pub(super) fn svg(&self) -> anyhow::Result<String> {
        let height = match self {
            Self::Lines { .. } => HEIGHT,
            Self::Bars { bars, .. } => BAR
                .saturating_mul(u32::try_from(bars.len())?)
                .saturating_add(AROUND_BARS),
        };
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
            self.draw(&area)
                .and_then(|()| area.present().map_err(|error| error.to_string()))
                .map_err(|error| anyhow!("cannot be drawn: {error}"))?;
        }
        Ok(text)
    }

    fn draw(&self, area: &Area) -> Result<(), String> {
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        match self {
            Self::Lines {
                title,
                x,
                y,
                logarithmic_y,
                ticks,
                lines,
            } => {
                let (low, high) = bounds(lines.iter().flat_map(|line| &line.points).map(|point| point.0));
                let x_axis = Ticks::new(low, high.max(low * 1.01), ticks);
                let (low, high) = bounds(lines.iter().flat_map(|line| &line.points).map(|point| point.1));
                let labels = (title.as_str(), x.as_str(), y.as_str());
                if *logarithmic_y {
                    let y_axis = Ticks::new(low / 1.3, high * 1.3, &[]);
                    draw_lines(area, labels, x_axis, y_axis, lines)
                } else {
                    let y_axis = 0.0..high * 1.1;
                    draw_lines(area, labels, x_axis, y_axis, lines)
                }
            }
            Self::Bars { title, unit, bars } => draw_bars(area, title, unit, bars),
        }
        .map_err(|error| error.to_string())
    }
}

fn draw_lines<'a, Y>(
    area: &Area<'a>,
    (title, x, y): (&str, &str, &str),
    x_axis: Ticks,
    y_axis: impl plotters::coord::ranged1d::AsRangedCoord<CoordDescType = Y, Value = f64>,
    lines: &[Line],
) -> Drawn<'a>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let (area, legend) = area.split_horizontally(i32::try_from(WIDTH).unwrap_or(LEGEND) - LEGEND);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 20))
        .margin(12)
        .margin_right(26)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(x_axis, y_axis)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style((FONT, 13))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        // A logarithm has no zero.
        let points = || line.points.iter().map(|(x, y)| (*x, y.max(f64::MIN_POSITIVE)));
        chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
        chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    draw_legend(&legend, lines.iter().map(|line| line.name.as_str()))
}

/// Names in the order of the colours.
fn draw_legend<'a, 'b>(area: &Area<'a>, names: impl Iterator<Item = &'b str>) -> Drawn<'a> {
    let mut y = 50;
    for (name, colour) in names.zip(COLOURS.into_iter().cycle()) {
        area.draw(&Rectangle::new([(4, y - 5), (16, y + 5)], colour.filled()))?;
        area.draw(&Text::new(name.to_owned(), (24, y - 6), (FONT, 13)))?;
        y += LEGEND_LINE;
    }
    Ok(())
}

fn draw_bars<'a>(area: &Area<'a>, title: &str, unit: &str, bars: &[Bar]) -> Drawn<'a> {
    let length = |bar: &Bar| bar.parts.iter().map(|part| part.1).sum::<f64>();
    let longest = bars.iter().map(length).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let (area, legend) = area.split_horizontally(i32::try_from(WIDTH).unwrap_or(LEGEND) - LEGEND);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..longest * 1.15, (bars.len() as f64)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(unit)
        .x_labels(7)
        .x_label_formatter(&|value| shown(*value))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style((FONT, 13))
        .draw()?;
    let mut parts: Vec<&str> = Vec::new();
    for (at, bar) in bars.iter().enumerate() {
        let (top, bottom) = (at as f64 + 0.18, at as f64 + 0.82);
        let mut from = 0.0;
        for (part, value) in &bar.parts {
            let known = parts.iter().position(|name| name == part);
            let number = known.unwrap_or(parts.len());
            let colour = COLOURS[number % COLOURS.len()];
            let shape = Rectangle::new([(from, top), (from + value, bottom)], colour.filled());
            let drawn = chart.draw_series([shape])?;
            if known.is_none() {
                parts.push(part);
                drawn
                    .label(part)
                    .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
            }
            from += value;
        }
        let (x, y) = chart.backend_coord(&(from, at as f64 + 0.5));
        area.draw(&Text::new(shown(from), (x + 6, y - 6), (FONT, 13)))?;
        let left = chart.backend_coord(&(0.0, 0.0)).0;
        let style = TextStyle::from((FONT, 13).into_font()).pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Center,
        ));
        area.draw(&Text::new(bar.name.clone(), (left - 8, y), style))?;
    }
    if parts.len() > 1 {
        draw_legend(&legend, parts.into_iter())?;
    }
    Ok(())
}

/// The least and the most of some values that a logarithmic axis can show.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut bounds = (f64::INFINITY, 0.0f64);
    for value in values.filter(|value| *value > 0.0) {
        bounds = (bounds.0.min(value), bounds.1.max(value));
    }
    if bounds.1 > 0.0 { bounds } else { (1.0, 1.0) }
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// A logarithmic axis with names of our choice: plotters' own writes 1e6 as seven digits, and knows no percentiles.
struct Ticks {
    low: f64,
    high: f64,
    named: Vec<(f64, String)>,
}

impl Ticks {
    fn new(low: f64, high: f64, named: &[(f64, String)]) -> Self {
        Self {
            low,
            high,
            named: named.to_vec(),
        }
    }

    /// One, two and five times the powers of ten.
    fn decades(&self, steps: &[f64]) -> Vec<f64> {
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        (first..=last)
            .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
            .filter(|value| (self.low * 0.999..=self.high * 1.001).contains(value))
            .collect()
    }
}

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        limit.0 + (f64::from(limit.1 - limit.0) * part).round() as i32
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if !self.named.is_empty() {
            return self.named.iter().map(|(value, _)| *value).collect();
        }
        // With fewer than three, an axis says nothing.
        [&[1.0][..], &[1.0, 2.0, 5.0][..]]
            .into_iter()
            .map(|steps| self.decades(steps))
            .find(|points| (3..=hint.max_num_points()).contains(&points.len()))
            .unwrap_or_else(|| self.decades(&[1.0, 2.0, 5.0]))
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format_ext(&self, value: &f64) -> String {
        if let Some((_, name)) = self.named.iter().find(|(named, _)| named == value) {
            return name.clone();
        }
        match *value {
            value if value >= 1e6 => format!("{} M", value / 1e6),
            value if value >= 1e3 => format!("{} k", value / 1e3),
            value => format!("{}", (value * 1e6).round() / 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_names_that_people_read() {
        let axis = Ticks::new(1.0, 2e6, &[]);
        let points = axis.decades(&[1.0]);
        let names: Vec<String> = points.iter().map(|value| axis.format_ext(value)).collect();
        assert_eq!(names, ["1", "10", "100", "1 k", "10 k", "100 k", "1 M"]);
        assert_eq!(axis.map(&1.0, (0, 100)), 0);
        assert_eq!(axis.map(&2e6, (0, 100)), 100);
    }
}
