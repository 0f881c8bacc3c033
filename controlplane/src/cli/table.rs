//! Aligned tables for people.

/// Rows under headings; columns are as wide as they have to be.
#[derive(Clone, Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these headings; one that begins with `>` is aligned to the right.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            right: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            rows: vec![
                headings
                    .iter()
                    .map(|heading| heading.trim_start_matches('>').to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // A cell never breaks its line, whatever a peer has put into a name.
        let clean = |cell: String| {
            cell.chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect::<String>()
        };
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(clean).map(dash).collect());
    }

    /// The text; without rows, one line that says so.
    pub(super) fn render(&self, nothing: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{nothing}\n");
        }
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right);
            let line: Vec<_> = cells
                .map(|((cell, &width), &right)| {
                    if right {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", ">PACKETS", "STATE"]);
        assert_eq!(table.render("none"), "none\n");
        table.row(["a".to_owned(), "12345678".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "1".to_owned(), "up\u{1b}[2J".to_owned()]);
        assert_eq!(
            table.render("none"),
            "NAME     PACKETS  STATE\na       12345678  -\nlonger         1  up?[2J\n"
        );
    }
}
