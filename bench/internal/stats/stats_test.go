package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEveryDurationIsInABucketAtMostASixtyFourthTooLong(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	durations := []time.Duration{0, 1, 127, 128, 129, 255, 256, 1<<20 - 1, 1 << 20, 1<<41 - 1}
	for range 10_000 {
		durations = append(durations, time.Duration(random.Uint64()>>(24+random.IntN(40))))
	}
	for _, d := range durations {
		got := longest(bucket(d))
		if got < d || got > d+d/64 {
			t.Fatalf("%d ns counts as %d ns", d, got)
		}
	}
}

func TestDurationsOutOfRangeCountAsTheNearest(t *testing.T) {
	var h Histogram
	h.Record(-time.Second)
	h.Record(24 * time.Hour)
	if h.Quantile(0) != 0 || h.Quantile(1) != 1<<41-1 || h.Count() != 2 {
		t.Errorf("quantiles %v and %v of %d", h.Quantile(0), h.Quantile(1), h.Count())
	}
}

func TestQuantilesAreThoseOfTheSortedValues(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var one, other Histogram
	var all []time.Duration
	for i := range 9_999 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			one.Record(d)
		} else {
			other.Record(d)
		}
	}
	one.Add(&other)
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := one.Quantile(q)
		if got < want || got > want+want/64 {
			t.Errorf("quantile %v is %v, the value at its rank %v", q, got, want)
		}
	}
}

func TestQuantileOfNothingIsZero(t *testing.T) {
	if got := new(Histogram).Quantile(0.99); got != 0 {
		t.Errorf("it is %v", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("of %v it is %v, not %v", c.values, got, c.want)
		}
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	of := ByRound{0: 10, 1: 40, 2: 30, 3: 5}
	to := ByRound{0: 20, 1: 80, 2: 30, 7: 1}
	if got := Ratios(of, to); !slices.Equal(got, []float64{0.5, 0.5, 1}) {
		t.Errorf("they are %v", got)
	}
	if got := Ratios(of, ByRound{9: 1}); len(got) > 0 {
		t.Errorf("rounds that have nothing in common have the ratios %v", got)
	}
}

func TestFitFindsTheLine(t *testing.T) {
	line := Fit([]Point{{100, 12}, {1000, 21}, {5000, 61}})
	if math.Abs(line.Base-11) > 1e-9 || math.Abs(line.Slope-0.01) > 1e-9 || math.Abs(line.At(2000)-31) > 1e-9 {
		t.Errorf("it is %+v", line)
	}
	if mean := Mean([]Point{{1, 2}, {7, 4}}); mean != 3 {
		t.Errorf("the mean is %v", mean)
	}
	if flat := Fit([]Point{{5, 1}, {5, 3}}); flat != (Line{Base: 2}) {
		t.Errorf("one x makes %+v", flat)
	}
}
