//! Tables for people.

use std::io::{self, Write};

/// Writes rows under a header, each column as wide as its widest cell.
pub(crate) fn write(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    writeln!(out, "{}", line(&mut header.iter().copied()))?;
    for row in rows {
        writeln!(out, "{}", line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut out = Vec::new();
        let rows = [vec!["orders".to_owned(), "6".to_owned()], vec!["a".to_owned(), String::new()]];
        write(&mut out, &["TOPIC", "PARTITIONS"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "TOPIC   PARTITIONS\norders  6\na\n");
    }
}
