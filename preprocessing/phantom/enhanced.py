"""Pictures to Enhanced multi-frame MR files, one a series.

Letters: S slices of a series, T phases of a slice, H W pixels.
"""

import io
import pathlib

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedMRImageStorage

from preprocessing.phantom import dicom


def _item(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _enhanced_type(how: dicom.Protocol) -> list[str]:
    return [*how.image_type, *("NONE",) * 4][:4] if how.image_type else ["ORIGINAL", "PRIMARY", "M", "NONE"]


def _shared(series: dicom.SeriesPlan) -> Dataset:
    """The functional groups that hold for every frame."""
    plane, how = series.planes[0], series.protocol
    return _item(
        PixelMeasuresSequence=[
            _item(
                PixelSpacing=dicom.decimals(np.full(2, plane.spacing)),
                SliceThickness=f"{how.thickness:g}",
                SpacingBetweenSlices=f"{dicom.slice_gap(series):.4f}",
            )
        ],
        MRImageFrameTypeSequence=[
            _item(
                FrameType=_enhanced_type(how),
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE",
                ComplexImageComponent="MAGNITUDE",
                AcquisitionContrast=how.contrast,
            )
        ],
        MRTimingAndRelatedParametersSequence=[
            _item(
                RepetitionTime=how.tr,
                FlipAngle=how.flip,
                EchoTrainLength=1,
                RFEchoTrainLength=0,
                GradientEchoTrainLength=1,
            )
        ],
        MREchoSequence=[_item(EffectiveEchoTime=float(how.te))],
        FrameAnatomySequence=[_item(FrameLaterality="U")],
        PixelValueTransformationSequence=[
            _item(RescaleIntercept="0", RescaleSlope=f"{how.slope or 1.0:g}", RescaleType="US")
        ],
    )


def _per_frame(series: dicom.SeriesPlan, s: int, t: int) -> Dataset:
    plane = series.planes[s]
    content = _item(StackID="1", InStackPositionNumber=s + 1, DimensionIndexValues=[s + 1, t + 1])
    groups = _item(
        FrameContentSequence=[content],
        PlanePositionSequence=[_item(ImagePositionPatient=dicom.decimals(plane.origin))],
        PlaneOrientationSequence=[
            _item(ImageOrientationPatient=dicom.decimals(np.concatenate([plane.row, plane.column])))
        ],
    )
    if not series.scout:
        content.TemporalPositionIndex = t + 1
        delay = float(series.times_ms[s, t])
        groups.CardiacSynchronizationSequence = [
            _item(
                NominalCardiacTriggerDelayTime=delay,
                ActualCardiacTriggerDelayTime=delay,
                RRIntervalTimeNominal=float(series.interval_ms),
            )
        ]
    return groups


def write(
    folder: pathlib.Path, who: dicom.Identity, series: dicom.SeriesPlan, number: int, rng: np.random.Generator
) -> None:
    """One file a series, its frames in no order."""
    ds = dicom.common(who, series, number)
    sop = dicom.uid(who.study_uid, number, "enhanced")
    ds.SOPClassUID, ds.SOPInstanceUID, ds.InstanceNumber = EnhancedMRImageStorage, sop, 1
    how = series.protocol
    ds.ImageType = _enhanced_type(how)
    ds.PixelPresentation, ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"
    ds.ComplexImageComponent, ds.AcquisitionContrast, ds.ContentQualification = "MAGNITUDE", how.contrast, "PRODUCT"
    ds.AcquisitionDateTime, ds.AcquisitionDuration = who.study_date + who.study_time, 8.0
    ds.BurnedInAnnotation, ds.LossyImageCompression, ds.PresentationLUTShape = "NO", "00", "IDENTITY"
    ds.PulseSequenceName, ds.EchoPulseSequence, ds.SteadyStatePulseSequence = (
        how.sequence,
        "GRADIENT",
        "FREE_PRECESSION",
    )
    ds.CardiacSynchronizationTechnique = "NONE" if series.scout else "RETROSPECTIVE"
    ds.AcquisitionContextSequence = []
    organization = dicom.uid(who.study_uid, number, "dimensions")
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        _item(DimensionIndexPointer=pointer, FunctionalGroupPointer=0x00209111, DimensionOrganizationUID=organization)
        for pointer in (0x00209057, 0x00209128)
    ]
    slices, phases, height, width = series.frames.shape
    order = rng.permutation(slices * phases)
    ds.NumberOfFrames = len(order)
    ds.SharedFunctionalGroupsSequence = [_shared(series)]
    ds.PerFrameFunctionalGroupsSequence = [_per_frame(series, *divmod(int(i), phases)) for i in order]
    pixels = series.frames.reshape(-1, height, width)[order].astype("<u2").tobytes()
    ds.add(DataElement(0x7FE00010, "OW", pixels))
    buffer = io.BytesIO()
    file = FileDataset(buffer, ds, file_meta=dicom.meta(EnhancedMRImageStorage, sop), preamble=b"\0" * 128)
    file.save_as(buffer, enforce_file_format=True)
    (folder / f"{dicom.file_name(sop)}.dcm").write_bytes(buffer.getvalue())
