"""Where module names that the project does not have are known from, for the message about an unknown module."""

_FAMILIES = {  # paper or family -> module names of published model YAMLs
    "YOLO-FaceV2 (Yu et al., 2022)": "C3RFEM RFEM",
    "Involution (Li et al., CVPR 2021)": "Involution involution",
    "Normalization-based Attention Module (Liu et al., 2021)": "C3NAM",
    "Efficient Multi-Scale Attention (Ouyang et al., ICASSP 2023)": "C3EMA",
    "SA-Net (Zhang and Yang, ICASSP 2021)": "SA C3SA",
    "Squeeze-and-Excitation Networks (Hu et al., CVPR 2018)": "SENet",
    "Selective Kernel Networks (Li et al., CVPR 2019)": "SK SKConv SKNet",
    "A2-Nets (Chen et al., NeurIPS 2018)": "DoubleAttention A2Attention DoubleAttentionLayer",
    "Triplet Attention (Misra et al., WACV 2021)": "ZPool AttentionGate",
    "ParNet (Goyal et al., 2021)": "ParNetAttention ParNet ParNetBlock",
    "S2-MLPv2 (Yu et al., 2021)": "S2Attention S2MLPv2",
    "Polarized Self-Attention (Liu et al., 2021)": "ParallelPolarizedSelfAttention SequentialPolarizedSelfAttention",
    "Spatial Group-wise Enhance (Li et al., 2019)": "SpatialGroupEnhance SGE",
    "Criss-Cross Attention (Huang et al., ICCV 2019)": "CrissCrossAttention CCNet C3CCA",
    "Non-local Neural Networks (Wang et al., CVPR 2018)": "NonLocal NONLocalBlock2D NonLocalBlock",
    "GCNet (Cao et al., 2019)": "ContextBlock ContextBlock2d GlobalContext GCBlock",
    "BAM (Park et al., BMVC 2018)": "BAM BAMBlock",
    "ACmix (Pan et al., CVPR 2022)": "ACmix C3_ACmix",
    "Contextual Transformer (Li et al., 2021)": "CoT CoTAttention CoT3 CoTBottleneck",
    "BoTNet (Srinivas et al., CVPR 2021)": "MHSA BottleneckTransformer",
    "BiFormer (Zhu et al., CVPR 2023)": "BiFormer BiLevelRoutingAttention BiFormerBlock BRA BRAttention",
    "Swin Transformer (Liu et al., ICCV 2021)": (
        "SwinTransformerBlock SwinTransformerLayer SwinTransformer_Layer PatchEmbed PatchMerging SwinStage STCSPA"
        " STCSPB STCSPC ST2CSPA ST2CSPB ST2CSPC"
    ),
    "HorNet (Rao et al., NeurIPS 2022)": "HorNet gnconv C3HB HorLayerNorm",
    "FasterNet (Chen et al., CVPR 2023)": (
        "PatchEmbed_FasterNet PatchMerging_FasterNet BasicStage C2f_Faster Faster_Block"
    ),
    "FocalNet (Yang et al., NeurIPS 2022)": "FocalModulation FocalNet",
    "LSKNet (Li et al., ICCV 2023)": "LSKNet LSKblock LSKBlock LSKA",
    "RepLKNet (Ding et al., CVPR 2022)": "RepLKNet RepLKBlock RepLKNetStage RepLKDeXt RepLKNet_Stem RepLKNet_stage1",
    "ConvMixer (Trockman and Kolter, 2022)": "ConvMix ConvMixer CSPCM",
    "DySample (Liu et al., ICCV 2023)": "DySample",
    "Omni-Dimensional Dynamic Convolution (Li et al., ICLR 2022)": "ODConv ODConv2d ODConv_3rd C3_ODConv",
    "CondConv (Yang et al., NeurIPS 2019)": "CondConv CondConv2D C3_CondConv",
    "Deformable ConvNets (Dai et al., 2017; Zhu et al., 2019)": "DCN DCNv2 DCNV2 DCNConv DeformConv2d C3_DCN C3_DCNv2",
    "InternImage (Wang et al., CVPR 2023)": "DCNv3 DCNV3 DCNv3C3 C3_DCNv3",
    "RFAConv (Zhang et al., 2023)": "RFAConv RFCAConv RFCBAMConv",
    "Adaptively Spatial Feature Fusion (Liu et al., 2019)": "ASFF ASFF2 ASFF3 ASFF_Detect ASFFV5",
    "Funnel Activation (Ma et al., ECCV 2020)": "FReLU",
    "VoVNet and slim-neck (Li et al., 2022)": "GSBottleneck GSBottleneckC GSConvE GSConvns VoVCSP",
    "HarDNet (Chao et al., ICCV 2019)": "HarDBlock HarDBlock2",
    "Scaled-YOLOv4 and YOLOR (Wang et al., 2021)": "BottleneckCSPF DWT ImplicitA ImplicitM",
    "YOLOv6 (Li et al., 2022)": "BepC3 BottleRep BiFusion SimCSPSPPF CSPSPPF Transpose",
    "YOLOv7 (Wang et al., 2022)": (
        "GhostCSPA GhostCSPB GhostCSPC GhostSPPCSPC GhostStem Stem"
        " RepBottleneck RepBottleneckCSPA RepBottleneckCSPB RepBottleneckCSPC RepRes RepResCSPA RepResCSPB RepResCSPC"
        " ResX RepResX ResCSPA ResCSPB ResCSPC ResXCSPA ResXCSPB ResXCSPC Res RepConv_OREPA Chuncat Foldcut Robust"
        " RobustConv RobustConv2 IKeypoint IBin"
    ),
    "YOLOv9 (Wang et al., 2024)": "DualDetect DualDDetect TripleDDetect",
    "RT-DETR (Lv et al., 2023)": "ResNetBlock AIFI RTDETRDecoder",
    "YOLOv8 and later": (
        "DFL Segment Pose OBB Classify Proto C1 C2fAttn C2fPSA ImagePoolingAttn WorldDetect LightConv Conv2"
        " ChannelAttention SpatialAttention"
    ),
    "YOLOX (Ge et al., 2021)": "Decouple Decoupled_Detect DecoupledHead CSPLayer",
    "Dynamic Head (Dai et al., CVPR 2021)": "DyHead DyHeadBlock DyDetect Detect_DyHead",
    "Gold-YOLO (Wang et al., NeurIPS 2023)": (
        "SimFusion_3in SimFusion_4in IFM InjectionMultiSum_Auto_pool PyramidPoolAgg TopBasicLayer AdvPoolFusion"
    ),
    "DAMO-YOLO (Xu et al., 2022)": "CSPStage RepGFPN",
    "AFPN (Yang et al., 2023)": "AFPN ASFF_2 ASFF_3",
    "YOLOP (Wu et al., 2022)": "SegHead",
}

_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names.split()}


def family_of(module: str) -> str | None:
    """The paper or family in which a module name is published; None for an unknown one."""
    return _FAMILY_OF.get(module.rpartition(".")[2])
