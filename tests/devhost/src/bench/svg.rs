// SPDX-License-Identifier: BSD-2-Clause

//! A picture of the table: each row's result beside its limit.

use super::measure::Row;
use super::report::count;
use std::fmt::Write;

const BAR: f64 = 12.0;
const ROW: f64 = 32.0;
const NAME_WIDTH: f64 = 300.0;
const BAR_WIDTH: f64 = 480.0;
const TOP: f64 = 64.0;
/// Room for the figures after the bars.
const WIDTH: f64 = NAME_WIDTH + BAR_WIDTH + 150.0;

const DEVICE: &str = "#2563a8";
const LIMIT: &str = "#b8bec6";
const TEXT: &str = "#1c1f23";

/// Draws `rows`. Bars are shares of the row's greater figure: rows differ by
/// more than a hundredfold, and it is the ratio that matters.
pub(crate) fn draw(rows: &[Row]) -> String {
    let height = TOP + rows.len() as f64 * ROW + 16.0;
    let mut text = String::new();
    let _ = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>I/O per second, beside the limit of the machine</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    label(&mut text, 12.0, 24.0, "I/O per second, beside the limit of the machine", "16");
    for (at, colour, name) in [(0.0, DEVICE, "device"), (90.0, LIMIT, "limit, in the same run")] {
        bar(&mut text, NAME_WIDTH + at, 38.0, BAR, colour);
        label(&mut text, NAME_WIDTH + at + 18.0, 48.0, name, "12");
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + number as f64 * ROW;
        let most = row.device.iops.max(row.limit.iops).max(1.0);
        label(&mut text, 12.0, y + 16.0, &row.case.to_string(), "12");
        for (offset, iops, colour) in [(0.0, row.device.iops, DEVICE), (BAR, row.limit.iops, LIMIT)]
        {
            let width = BAR_WIDTH * iops / most;
            bar(&mut text, NAME_WIDTH, y + offset, width, colour);
            let figure = if offset == 0.0 {
                format!("{} ({:.2})", count(iops), row.ratio[0])
            } else {
                count(iops)
            };
            label(&mut text, NAME_WIDTH + width + 6.0, y + offset + 10.0, &figure, "11");
        }
    }
    text.push_str("</svg>\n");
    text
}

fn bar(text: &mut String, x: f64, y: f64, width: f64, colour: &str) {
    let _ = writeln!(
        text,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
    );
}

fn label(text: &mut String, x: f64, y: f64, label: &str, size: &str) {
    let escaped = label.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{TEXT}\">{escaped}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case;
    use crate::bench::subject::Sample;

    #[test]
    fn each_row_has_two_bars_in_proportion() {
        let row = Row {
            case: case::few()[0],
            device: Sample { iops: 250.0, ..Sample::default() },
            limit: Sample { iops: 1000.0, ..Sample::default() },
            ratio: [0.25; 3],
            threads: 1,
            inside: None,
        };
        let picture = draw(&[row.clone(), row]);
        assert_eq!(picture.matches("width=\"480.0\"").count(), 2);
        assert_eq!(picture.matches("width=\"120.0\"").count(), 2);
        assert_eq!(picture.matches("250 (0.25)").count(), 2);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    }
}
