package stats

import "slices"

// Median is the middle value, or the mean of the two in the middle; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ByRound is one figure in each round in which it was measured.
type ByRound map[int]float64

// Ratios divides round by round and returns the quotients, sorted. A machine that is slower in one round than in another
// does not bend them. There are none when the two have no round in common.
func Ratios(of, to ByRound) []float64 {
	var ratios []float64
	for round, value := range of {
		if reference, ok := to[round]; ok && reference > 0 {
			ratios = append(ratios, value/reference)
		}
	}
	slices.Sort(ratios)
	return ratios
}

// Line is y = Base + Slope·x.
type Line struct{ Base, Slope float64 }

// Point is one measured pair.
type Point struct{ X, Y float64 }

// Fit is the line with the least squares. Without two different x it is flat.
func Fit(points []Point) Line {
	var n, sumX, sumY, sumXX, sumXY float64
	for _, p := range points {
		n++
		sumX += p.X
		sumY += p.Y
		sumXX += p.X * p.X
		sumXY += p.X * p.Y
	}
	if n == 0 {
		return Line{}
	}
	spread := n*sumXX - sumX*sumX
	if spread == 0 {
		return Line{Base: Mean(points)}
	}
	slope := (n*sumXY - sumX*sumY) / spread
	return Line{Base: (sumY - slope*sumX) / n, Slope: slope}
}

// Mean is the mean y; 0 of no points.
func Mean(points []Point) float64 {
	if len(points) == 0 {
		return 0
	}
	sum := 0.0
	for _, p := range points {
		sum += p.Y
	}
	return sum / float64(len(points))
}

// At is y at an x.
func (l Line) At(x float64) float64 { return l.Base + l.Slope*x }
