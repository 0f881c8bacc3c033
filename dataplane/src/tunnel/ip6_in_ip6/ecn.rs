//! Explicit congestion notification across a tunnel (RFC 6040).

/// The two bits of a traffic class.
pub(super) const MASK: u8 = 0b11;

const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;

/// The inner bits at the exit, by figure 4; `None`: the packet has to be dropped.
#[inline]
pub(super) fn at_exit(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_4() {
        const ECT_0: u8 = 0b10;
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer the same.
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, expected) in rows {
            for (outer, expected) in outer.iter().zip(expected) {
                assert_eq!(
                    at_exit(inner, *outer),
                    expected,
                    "inner {inner:02b}, outer {outer:02b}"
                );
            }
        }
    }
}
