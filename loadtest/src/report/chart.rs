//! Line charts as SVG. Lines have classes of the page's style sheet, which sets their colours. Pure.

use std::fmt::Write;

/// Size of the drawing, about that of a phone's screen in pixels, so that its text is readable there.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
/// Most points of a line; more points are drawn in groups.
const MAX_POINTS: usize = 240;

/// How an axis divides its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Linear, from 0.
    Linear,
    /// Linear, of numbers of things: ticks only at whole numbers.
    Whole,
    /// Linear, of bytes: ticks at round numbers of KB, MB, GB.
    Bytes,
    /// Logarithmic.
    Logarithmic,
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// A value for each point of the horizontal axis; `None` leaves a gap.
    pub(super) values: Vec<Option<f64>>,
}

/// A chart of lines over a common horizontal axis.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) scale: Scale,
    pub(super) x: Vec<f64>,
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) x_name: fn(f64) -> String,
    pub(super) series: Vec<Series<'a>>,
    pub(super) format: fn(f64) -> String,
    /// Text below the title.
    pub(super) note: &'a str,
    /// Positions on the horizontal axis that are marked by a vertical line.
    pub(super) marks: Vec<f64>,
}

impl Chart<'_> {
    /// Renders a figure with its title and legend; empty if there is nothing to draw.
    pub(super) fn to_html(&self) -> String {
        let has_values = |series: &Series<'_>| series.values.iter().any(Option::is_some);
        if self.x.len() < 2 || !self.series.iter().any(has_values) {
            return String::new();
        }
        let (low, high, ticks) = self.range();
        let mut svg = String::new();
        self.draw_grid(&mut svg, low, high, &ticks);
        self.draw_marks(&mut svg);
        for (number, series) in self.series.iter().enumerate() {
            let path = self.path(series, low, high);
            let _ = write!(svg, r#"<path class="line s{number}" d="{path}"/>"#);
        }
        self.draw_tips(&mut svg);
        let mut legend = String::new();
        for (number, series) in self.series.iter().enumerate().filter(|(_, s)| has_values(s)) {
            let _ = write!(legend, r#"<span class="key s{number}">{}</span>"#, series.name);
        }
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!(r#"<p class="note">{}</p>"#, self.note)
        };
        format!(
            r#"<figure><figcaption>{}</figcaption>{note}<div class="legend">{legend}</div><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">{svg}</svg></figure>"#,
            self.title, self.title
        )
    }

    fn horizontal(&self, x: f64) -> f64 {
        let first = self.x.first().copied().unwrap_or(0.0);
        let last = self.x.last().copied().unwrap_or(1.0);
        LEFT + (x - first) / (last - first).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT)
    }

    fn vertical(&self, value: f64, low: f64, high: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear | Scale::Whole | Scale::Bytes => (value - low) / (high - low),
            Scale::Logarithmic => (value.max(low) / low).ln() / (high / low).ln(),
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    /// The vertical axis: its low end, its high end and its ticks.
    fn range(&self) -> (f64, f64, Vec<f64>) {
        let values = || self.series.iter().flat_map(|series| series.values.iter().flatten());
        let high = values().copied().fold(0.0, f64::max);
        match self.scale {
            Scale::Linear | Scale::Whole | Scale::Bytes => {
                let step = match self.scale {
                    Scale::Whole => nice_step(high).max(1.0),
                    Scale::Bytes => {
                        let unit = 1024_f64.powf(high.max(1.0).log(1024.0).floor());
                        nice_step(high / unit) * unit
                    }
                    _ => nice_step(high),
                };
                let steps = (high / step).ceil().max(1.0);
                let ticks = (0..=steps as u32).map(|tick| f64::from(tick) * step).collect();
                (0.0, steps * step, ticks)
            }
            Scale::Logarithmic => {
                let positive = values().copied().filter(|value| *value > 0.0);
                let low = positive.fold(f64::INFINITY, f64::min).min(high).max(1e-3);
                let (first, last) =
                    (low.log10().floor() as i32, high.max(low).log10().ceil() as i32);
                let last = last.max(first + 1);
                let ticks: Vec<f64> = (first..=last).map(|power| 10_f64.powi(power)).collect();
                (10_f64.powi(first), 10_f64.powi(last), ticks)
            }
        }
    }

    fn draw_grid(&self, svg: &mut String, low: f64, high: f64, ticks: &[f64]) {
        for tick in ticks {
            let y = self.vertical(*tick, low, high);
            let (right, text) = (WIDTH - RIGHT, LEFT - 6.0);
            // Ticks are round numbers, so drop their decimals.
            let label = (self.format)(*tick).replace(".00 ", " ").replace(".0 ", " ");
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text x="{text}" y="{:.1}" text-anchor="end">{label}</text>"#,
                y + 4.0
            );
        }
        for (x, label) in &self.x_ticks {
            let x = self.horizontal(*x);
            // Keep the last label inside the drawing.
            let anchor = if x > WIDTH - RIGHT - 20.0 { "end" } else { "middle" };
            let (top, bottom) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4.0);
            let _ = write!(
                svg,
                r#"<line class="tick" x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{bottom}"/><text x="{x:.1}" y="{}" text-anchor="{anchor}">{label}</text>"#,
                HEIGHT - 7.0
            );
        }
    }

    fn draw_marks(&self, svg: &mut String) {
        let last = self.x.last().copied().unwrap_or(0.0);
        for at in self.marks.iter().filter(|at| **at <= last) {
            let (x, bottom) = (self.horizontal(*at), HEIGHT - BOTTOM);
            let _ = write!(
                svg,
                r#"<line class="mark" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{bottom}"/>"#
            );
        }
    }

    /// Groups of neighbouring points, if there are too many for the width. The highest value stands for
    /// its group, so that a spike does not disappear.
    fn groups(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let size = self.x.len().div_ceil(MAX_POINTS).max(1);
        (0..self.x.len()).step_by(size).map(move |from| from..(from + size).min(self.x.len()))
    }

    fn highest(series: &Series<'_>, group: std::ops::Range<usize>) -> Option<f64> {
        series.values.get(group)?.iter().flatten().copied().reduce(f64::max)
    }

    fn path(&self, series: &Series<'_>, low: f64, high: f64) -> String {
        let mut path = String::new();
        let mut pen = 'M';
        for group in self.groups() {
            let x = self.horizontal(self.x[group.start]);
            match Self::highest(series, group) {
                Some(value) => {
                    let _ = write!(path, "{pen}{x:.1} {:.1}", self.vertical(value, low, high));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        path
    }

    /// Draws invisible stripes whose tooltips show the values below the pointer.
    fn draw_tips(&self, svg: &mut String) {
        let count = self.groups().count().max(1) as f64;
        let width = (WIDTH - LEFT - RIGHT) / count;
        for group in self.groups() {
            let at = self.x[group.start];
            let x = self.horizontal(at) - width / 2.0;
            let mut tip = (self.x_name)(at);
            for series in &self.series {
                if let Some(value) = Self::highest(series, group.clone()) {
                    let _ = write!(tip, "\n{}: {}", series.name, (self.format)(value));
                }
            }
            let height = HEIGHT - TOP - BOTTOM;
            let _ = write!(
                svg,
                r#"<rect class="tip" x="{x:.1}" y="{TOP}" width="{width:.1}" height="{height}"><title>{tip}</title></rect>"#
            );
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that three to six steps reach `high`.
pub(super) fn nice_step(high: f64) -> f64 {
    if high <= 0.0 {
        return 1.0;
    }
    let raw = high / 4.0;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| raw <= factor * power * 1.0001);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_round_steps() {
        for (high, step) in [(20_000.0, 5_000.0), (2.0, 0.5), (7.0, 2.0), (0.0, 1.0), (4.0, 1.0)] {
            assert!((nice_step(high) - step).abs() < 1e-9, "{high}: {}", nice_step(high));
        }
    }

    fn chart(values: Vec<Option<f64>>, scale: Scale) -> Chart<'static> {
        Chart {
            title: "t",
            scale,
            x: (0..values.len()).map(|x| x as f64).collect(),
            x_ticks: Vec::new(),
            x_name: |x| format!("{x}"),
            series: vec![Series { name: "s", values }],
            format: |value| format!("{value}"),
            note: "",
            marks: vec![1.0, 99.0],
        }
    }

    #[test]
    fn leaves_gaps_and_skips_empty_charts() {
        let gap = chart(vec![Some(1.0), Some(2.0), None, Some(1.0)], Scale::Linear);
        assert_eq!(gap.path(&gap.series[0], 0.0, 2.0).matches('M').count(), 2);
        assert_eq!(chart(vec![None, None], Scale::Linear).to_html(), "");
        assert_eq!(chart(vec![Some(1.0)], Scale::Linear).to_html(), "");
    }

    #[test]
    fn marks_positions_within_the_axis() {
        let html = chart(vec![Some(1.0); 3], Scale::Linear).to_html();
        assert_eq!(html.matches(r#"class="mark""#).count(), 1);
    }

    #[test]
    fn keeps_a_peak_among_many_points() {
        let mut values = vec![Some(1.0); 10_000];
        values[5_003] = Some(100.0);
        let chart = chart(values, Scale::Logarithmic);
        let path = chart.path(&chart.series[0], 1.0, 100.0);
        assert!(path.contains(&format!(" {TOP:.1}")), "the peak is at the top");
        assert!(path.matches('L').count() < MAX_POINTS);
    }
}
