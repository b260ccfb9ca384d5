//! As much SVG as the plots need.
//!
//! By hand: a plotting library would be the largest dependency of the whole workspace. Colours follow the reader's theme.

use std::fmt::Write as _;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.name{font-weight:600}\
.tick{font-size:11px;fill:#59636e}.end{text-anchor:end}.middle{text-anchor:middle}.page{fill:#fff}\
polyline{fill:none}.grid{stroke:#d1d9e0}.event{stroke:#cf222e;stroke-dasharray:3 3}\
.curve{stroke:#0969da;stroke-width:1.8}.bar{fill:#9198a1}.chosen{fill:#0969da}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.tick{fill:#9198a1}.page{fill:#0d1117}.grid{stroke:#2f353d}\
.event{stroke:#ff7b72}.curve{stroke:#58a6ff}.bar{fill:#656c76}.chosen{fill:#58a6ff}}";

/// A picture, drawn from back to front.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a panel is, and how facts between 0 and 1 lie in it.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    pub(crate) fn x_of(&self, share: f64) -> f64 {
        self.x + share * self.width
    }

    /// Upwards, as people draw.
    pub(crate) fn y_of(&self, share: f64) -> f64 {
        self.y + (1.0 - share) * self.height
    }
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self {
            width,
            height,
            body: String::new(),
        };
        svg.bar("page", 0.0, 0.0, width, height);
        svg.text(12.0, 26.0, "title", title);
        svg
    }

    pub(crate) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>\n"
        ));
    }

    pub(crate) fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.push(format_args!("<polyline class=\"{class}\" points=\"{points}\"/>\n"));
    }

    pub(crate) fn bar(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        self.push(format_args!("<rect class=\"{class}\" {place}/>\n"));
    }

    /// Returns the whole file.
    pub(crate) fn show(&self) -> String {
        let Self { width, height, body } = self;
        let space = "xmlns=\"http://www.w3.org/2000/svg\"";
        format!(
            "<svg {space} viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n<style>{STYLE}</style>\n{body}</svg>\n"
        )
    }

    fn push(&mut self, piece: std::fmt::Arguments<'_>) {
        self.body.write_fmt(piece).expect("a string takes all");
    }
}
