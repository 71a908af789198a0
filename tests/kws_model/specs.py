"""Feature specs for hypothesis to draw: any that FeatureSpec accepts, small enough to compute."""

from hypothesis import strategies as st

from kws_model.feature_spec import FeatureSpec

FEATURES = ("log_spectrogram", "log_mel", "mfcc", "waveform")


@st.composite
def specs(draw) -> FeatureSpec:
    rate_hz = draw(st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]))
    window, stride = draw(st.integers(16, 1024)), draw(st.integers(1, 1024))
    clip = window + draw(st.integers(0, 4000))
    feature = draw(st.sampled_from(FEATURES))
    dtypes = [None, "float16", "float32"] + ["int16"] * (feature == "waveform")
    num_mel_bins = draw(st.integers(1, 80))
    lower_hz = draw(st.floats(0, rate_hz / 4))
    return FeatureSpec(
        feature=feature,
        dtype=draw(st.sampled_from(dtypes)),
        sample_rate_hz=rate_hz,
        clip_ms=clip * 1000 / rate_hz,
        window_ms=window * 1000 / rate_hz,
        stride_ms=stride * 1000 / rate_hz,
        fft_length=draw(st.none() | st.integers(window, 2048)),
        window_function=draw(st.sampled_from(["hann", "hamming", "rectangular"])),
        spectrum=draw(st.sampled_from(["power", "magnitude"])),
        pre_emphasis=draw(st.floats(0, 0.99)),
        log_offset=draw(st.floats(1e-6, 1)),
        num_mel_bins=num_mel_bins,
        mel_scale=draw(st.sampled_from(["htk", "slaney"])),
        lower_hz=lower_hz,
        upper_hz=draw(st.none() | st.floats(lower_hz + 1, rate_hz / 2)),
        num_mfcc=draw(st.integers(1, num_mel_bins)),
        lifter=draw(st.integers(0, 40)),
    )
