// Package stats holds what the bench makes of its raw figures: quantiles of many latencies, medians of a few rounds.
//
// It is arithmetic only: it measures nothing and prints nothing.
package stats

import (
	"math/bits"
	"time"
)

// Values of the same power of two share 64 buckets, as in HdrHistogram: a bucket is at most 1/64 of its value wide.
const (
	subBits  = 6
	topBit   = 40 // 2^40 ns are 18 minutes; what is longer counts as that
	nBuckets = (topBit-subBits)<<subBits + 2<<subBits
)

// Histogram counts durations. Its error is at most 1.6 %, its size does not depend on what it counts, and Record does not
// allocate. It belongs to one goroutine. The zero value is empty.
type Histogram struct {
	counts [nBuckets]uint64
	total  uint64
}

// Record counts one duration.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
}

// Count is how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.total }

// Add counts all that the other has counted.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// Quantile is the duration that the share q (0 to 1) of all does not exceed, 0 when nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen > rank || seen == h.total && n > 0 {
			return longest(i)
		}
	}
	return 0
}

// bucket is where a duration is counted: below 128 ns each has its own, above the leading seven bits choose.
func bucket(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<(topBit+1)-1))
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// longest is the longest duration of a bucket.
func longest(i int) time.Duration {
	shift := max(i>>subBits-1, 0)
	mantissa := i - shift<<subBits
	return time.Duration((mantissa+1)<<shift - 1)
}
